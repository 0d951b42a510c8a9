"""The shop's tables through SQLAlchemy and psycopg2, and what is asked of them."""

import time
from decimal import Decimal

from sqlalchemy import ForeignKey, create_engine, func, select, update
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, joinedload, mapped_column, relationship

from shop import settings

engine = create_engine(
    settings.DATABASE_URL.replace("postgresql:", "postgresql+psycopg2:"),
    pool_size=settings.POOL_SIZE,
    max_overflow=0,
)


class Base(DeclarativeBase):
    pass


class Category(Base):
    __tablename__ = "categories"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    parent_id: Mapped[int | None]


class Product(Base):
    __tablename__ = "products"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    category_id: Mapped[int]
    price: Mapped[Decimal]
    stock: Mapped[int]
    weight: Mapped[int]
    description: Mapped[str]

    def as_dict(self):
        return {"id": self.id, "name": self.name, "price": str(self.price)}


class Customer(Base):
    __tablename__ = "customers"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    email: Mapped[str]
    region: Mapped[str]


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[int]
    product_id: Mapped[int] = mapped_column(ForeignKey("products.id"))
    quantity: Mapped[int]
    total: Mapped[Decimal]
    status: Mapped[str]
    product: Mapped[Product] = relationship()


class Setting(Base):
    __tablename__ = "settings"
    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[str]


class Job(Base):
    __tablename__ = "jobs"
    id: Mapped[int] = mapped_column(primary_key=True)
    status: Mapped[str]


def newest(count, before=None):
    with Session(engine) as session:
        query = select(Product).order_by(Product.id.desc()).limit(count)
        if before is not None:
            query = query.where(Product.id < before)
        return [product.as_dict() for product in session.scalars(query)]


def product(number):
    with Session(engine) as session:
        found = session.get(Product, number)
        return found and found.as_dict()


def order(number):
    with Session(engine) as session:
        found = session.get(Order, number)
        return found and {"id": found.id, "product": found.product.as_dict(), "total": str(found.total)}


def customer_orders(customer):
    """All orders of a customer, with their products."""
    with Session(engine) as session:
        query = select(Order).where(Order.customer_id == customer).options(joinedload(Order.product))
        return [{"id": found.id, "product": found.product.name} for found in session.scalars(query)]


def best_customers(region):
    """The customers of a region with how much they have bought."""
    bought = select(func.sum(Order.total)).where(Order.customer_id == Customer.id).scalar_subquery()
    with Session(engine) as session:
        query = select(Customer.name, bought).where(Customer.region == region).limit(5000)
        return [{"name": name, "total": str(total)} for name, total in session.execute(query)]


def into_cart(number, quantity):
    with Session(engine) as session, session.begin():
        session.execute(update(Product).where(Product.id == number).values(stock=Product.stock - quantity))


def setting(name):
    with Session(engine) as session:
        return session.scalar(select(Setting.value).where(Setting.name == name))


def job_status(number):
    with Session(engine) as session:
        return session.scalar(select(Job.status).where(Job.id == number))


def category_products(category):
    with Session(engine) as session:
        query = select(Product.id, Product.price, Product.weight, Product.stock).where(Product.category_id == category)
        return [(row[0], float(row[1]), row[2], row[3]) for row in session.execute(query)]


def names(category):
    with Session(engine) as session:
        return list(session.scalars(select(Product.name).where(Product.category_id == category)))


def parents():
    with Session(engine) as session:
        return dict(tuple(row) for row in session.execute(select(Category.id, Category.parent_id)))


def export_rows(customer):
    """A customer's orders, one by one with everything about each, for their tax adviser."""
    with Session(engine) as session:
        numbers = session.scalars(select(Order.id).where(Order.customer_id == customer)).all()
    return [order(number) for number in numbers]


def feed(category):
    """All texts of a category, for search engines."""
    with Session(engine) as session:
        query = select(Product.name, Product.description).where(Product.category_id == category)
        return [f"{name}\n{description.upper()}\n" for name, description in session.execute(query)]


def book(direction, place):
    with Session(engine) as session, session.begin():
        session.execute(update(Job).where(Job.id == place).values(status="done"))


# Until the customer confirms, the goods are theirs alone.
_reservations = {}


def reserve(customer, number):
    connection = engine.connect()
    _reservations[customer] = connection
    connection.execute(update(Product).where(Product.id == number).values(stock=Product.stock - 1))


def confirm(customer):
    connection = _reservations.pop(customer)
    connection.commit()
    connection.close()


def throttle(name):
    """Feeds are made no more often than agreed."""
    wait = float(setting(name))
    if wait:
        time.sleep(wait)
