"""The shop on FastAPI: newer pages are asynchronous (httpx, asyncpg), older ones ordinary functions (SQLAlchemy, psycopg2)."""

import asyncio
import subprocess
from contextlib import asynccontextmanager

import asyncpg
import httpx
import psycopg
import requests
from fastapi import Body, FastAPI, HTTPException, Request
from fastapi.responses import PlainTextResponse, StreamingResponse
from pydantic import BaseModel

from shop import catalogue, models, papers, partners, services, settings, warehouse


@asynccontextmanager
async def lifespan(app):
    app.state.pool = await asyncpg.create_pool(
        settings.DATABASE_URL, min_size=1, max_size=settings.POOL_SIZE, statement_cache_size=0
    )
    yield
    app.state.pool.terminate()


app = FastAPI(lifespan=lifespan)
FLAGS = partners.flags()
RATES = partners.exchange_rates()


class Cart(BaseModel):
    product: int
    quantity: int


def found(value):
    if value is None:
        raise HTTPException(404)
    return value


@app.get("/")
def home():
    return models.newest(8)


@app.get("/products")
async def products(before: int = 1_000_000):
    async with app.state.pool.acquire() as connection:
        rows = await connection.fetch(
            "SELECT id, name, price::text FROM products WHERE id < $1 ORDER BY id DESC LIMIT 20", before
        )
    return [dict(row) for row in rows]


@app.get("/products/{number}")
def product(number: int):
    return found(models.product(number))


@app.get("/orders/{number}")
async def order(number: int):
    async with app.state.pool.acquire() as connection:
        row = await connection.fetchrow("SELECT id, product_id, total::text FROM orders WHERE id = $1", number)
    return dict(found(row))


@app.get("/customers/{number}/orders")
def customer_orders(number: int):
    return len(models.customer_orders(number))


@app.get("/customers/best")
def best_customers(region: str):
    return models.best_customers(region)


@app.get("/customers/turnover")
async def turnover(region: str):
    """The customers of a region with how much they have bought."""
    async with app.state.pool.acquire() as connection:
        rows = await connection.fetch(
            "SELECT c.name, (SELECT sum(o.total) FROM orders o WHERE o.customer_id = c.id)::text AS total"
            " FROM customers c WHERE c.region = $1",
            region,
        )
    return [dict(row) for row in rows]


@app.post("/cart")
def cart(cart: Cart):
    models.into_cart(cart.product, cart.quantity)
    return cart


@app.post("/orders/{number}/pay")
async def pay(number: int, cart: Cart):
    async with app.state.pool.acquire() as connection:
        await connection.execute("UPDATE products SET stock = stock - $2 WHERE id = $1", cart.product, cart.quantity)
    return number


@app.get("/cart/{customer}/size")
def cart_size(customer: int):
    return services.cart_size(customer)


@app.get("/cart/{customer}/badge")
async def cart_badge(customer: int):
    return {"size": services.cart_size(customer)}


@app.get("/search")
def search(q: str):
    return models.newest(5) if catalogue.is_search(q) else []


@app.post("/newsletter")
def newsletter(email: str = Body(embed=True)):
    return catalogue.is_email(email)


@app.post("/reviews")
def reviews(text: str = Body(embed=True)):
    return catalogue.without_tags(text)


@app.get("/products/{number}/similar")
def similar(number: int):
    return catalogue.similar((number, 9.0, 100, 1), models.category_products(1 + number % 40))


@app.get("/categories/{number}/duplicates")
def duplicates(number: int):
    return catalogue.duplicates(models.names(number))


@app.get("/categories/{number}/path")
def category_path(number: int):
    return catalogue.category_path(number, models.parents())


@app.get("/delivery")
def delivery():
    return catalogue.delivery_days(catalogue.today(), 4, int(models.setting("delivery_interval_days")))


@app.post("/login")
def login(password: str = Body(embed=True)):
    return catalogue.password_hash(password, int(models.setting("password_rounds")))


@app.get("/orders/{number}/shipping")
def shipping(number: int):
    return partners.shipping_quote(number)


@app.get("/orders/{number}/delivery")
async def delivery_note(number: int):
    """Taken over from the old site."""
    return requests.get(f"{settings.CARRIER_URL}/notes/{number}").json()


@app.get("/orders/{number}/tracking")
def tracking(number: int):
    return partners.tracking(number)


@app.get("/orders/{number}/taxes")
async def taxes(number: int):
    async with httpx.AsyncClient(timeout=None) as client:
        return (await client.get(f"{settings.PAYMENTS_URL}/taxes/{number}")).json()


@app.post("/orders/{number}/refund")
async def refund(number: int):
    async with httpx.AsyncClient(timeout=60) as client:
        return (await client.post(f"{settings.PAYMENTS_URL}/refunds/{number}")).json()


@app.get("/products/{number}/rating")
def rating(number: int):
    return partners.rating(number)


@app.get("/products/{number}/questions")
def questions(number: int):
    return partners.questions(number)


@app.get("/products/{number}/availability")
def availability(number: int):
    return partners.availability(number)


@app.post("/products/{number}/reorder")
def reorder(number: int):
    return partners.reorder(number)


@app.get("/products/{number}/restock")
def restock(number: int):
    return partners.restock_date(number)


@app.get("/products/{number}/costs")
def costs(number: int):
    return partners.supplier_price(number)


@app.get("/orders/{number}/customs")
def customs(number: int, pages: int = 3):
    return partners.customs_form(number, pages)


@app.get("/orders/{number}/offers")
def offers(number: int):
    return partners.checkout_offers(number)


@app.post("/orders/{number}/confirmation")
def confirmation(number: int):
    return services.confirmation(number)


class Transfer(BaseModel):
    source: int
    target: int


@app.post("/transfers")
def transfers(transfer: Transfer):
    warehouse.transfer(transfer.source, transfer.target, models.book)
    return transfer


@app.get("/prices/{currency}")
def price(currency: str):
    return warehouse.convert(10, currency, models.setting("rates_updated"))


@app.get("/bundles")
def bundle():
    return warehouse.bundle_price([9.5, 12.0, 3.25])


@app.post("/stock/count")
def count(pieces: int = Body(embed=True)):
    return warehouse.counts.count(pieces)


@app.get("/stock/shelves")
def shelves(aisles: int = 1):
    return services.shelf_movements(aisles)


@app.post("/stock/shelves/{number}/take")
def take(number: int):
    return services.take_from_shelf(number)


@app.get("/orders/{number}/invoice", response_class=PlainTextResponse)
def invoice(number: int):
    return papers.invoice(number)


@app.get("/orders/{number}/label", response_class=PlainTextResponse)
def label(number: int):
    return papers.label(number)


@app.get("/orders/{number}/slip", response_class=PlainTextResponse)
async def packing_slip(number: int):
    lock, template = settings.DATA / "template.lock", settings.DATA / "invoice.txt"
    return subprocess.run(["flock", lock, "cat", template], capture_output=True, check=True, text=True).stdout


@app.get("/customers/{number}/points")
async def points(number: int):
    with psycopg.connect(settings.DATABASE_URL) as connection:
        connection.execute("UPDATE jobs SET status = 'done' WHERE id = %s", [number])
    return number


@app.post("/orders/{number}/archive")
def archive(number: int):
    return papers.archive(number)


@app.post("/orders/{number}/number")
def invoice_number(number: int):
    return papers.next_number("invoices")


@app.post("/orders/{number}/print")
def print_label(number: int):
    papers.print_label(number)
    return number


@app.post("/uploads/{name}")
async def upload(name: str, request: Request):
    content = await request.body()
    return await asyncio.to_thread(papers.save_upload, name, content)


@app.post("/reservations/{customer}")
def reserve(customer: int):
    models.reserve(customer, customer)
    return customer


@app.post("/reservations/{customer}/confirm")
def confirm(customer: int):
    models.confirm(customer)
    return customer


holds = {}


@app.post("/holds/{customer}")
async def hold(customer: int):
    """As a reservation, for the new checkout."""
    connection = await app.state.pool.acquire()
    transaction = connection.transaction()
    await transaction.start()
    holds[customer] = connection, transaction
    await connection.execute("UPDATE products SET stock = stock - 1 WHERE id = $1", customer)
    return customer


@app.post("/holds/{customer}/confirm")
async def confirm_hold(customer: int):
    connection, transaction = holds.pop(customer)
    await transaction.commit()
    await app.state.pool.release(connection)
    return customer


@app.get("/feeds/partners")
def partner_feed():
    models.throttle("feed_interval_seconds")
    return models.newest(50)


@app.get("/feeds/category/{number}", response_class=PlainTextResponse)
def category_feed(number: int):
    return "".join(models.feed(number))


@app.get("/jobs/{number}/result")
def job_result(number: int):
    return partners.wait_for_job(lambda: models.job_status(number))


@app.get("/exports/customers/{number}")
def export_customer(number: int):
    return models.export_rows(number)


@app.get("/exports/orders.csv", response_class=PlainTextResponse)
def export_orders(lines: int = 100):
    return "2026-03-02;1234;Product 77;1;19.99;shipped\r\n" * lines


@app.get("/exports/orders.jsonl")
def stream_orders(lines: int = 100):
    line = '{"id": 1234, "product": "Product 77", "total": "19.99"}\n'
    return StreamingResponse((line * 50 for _ in range(lines // 50)), media_type="application/jsonl")
