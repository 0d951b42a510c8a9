"""The shop's tables; another program makes them."""

from django.db import models


class Category(models.Model):
    name = models.TextField()
    parent_id = models.IntegerField(null=True)

    class Meta:
        managed = False
        db_table = "categories"


class Product(models.Model):
    name = models.TextField()
    category_id = models.IntegerField()
    price = models.DecimalField(max_digits=10, decimal_places=2)
    stock = models.IntegerField()
    weight = models.IntegerField()
    description = models.TextField()

    class Meta:
        managed = False
        db_table = "products"

    def as_dict(self):
        return {"id": self.id, "name": self.name, "price": str(self.price)}


class Customer(models.Model):
    name = models.TextField()
    email = models.TextField()
    region = models.TextField()

    class Meta:
        managed = False
        db_table = "customers"


class Order(models.Model):
    customer = models.ForeignKey(Customer, models.DO_NOTHING)
    product = models.ForeignKey(Product, models.DO_NOTHING)
    quantity = models.IntegerField()
    total = models.DecimalField(max_digits=10, decimal_places=2)
    status = models.TextField()
    created = models.DateTimeField()

    class Meta:
        managed = False
        db_table = "orders"


class Setting(models.Model):
    name = models.TextField(primary_key=True)
    value = models.TextField()

    class Meta:
        managed = False
        db_table = "settings"


class Job(models.Model):
    status = models.TextField()

    class Meta:
        managed = False
        db_table = "jobs"
