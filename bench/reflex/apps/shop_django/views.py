"""The shop's pages."""

import time

from django.db import connections
from django.db.models import F, OuterRef, Subquery, Sum
from django.http import HttpResponse, JsonResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404

from shop import catalogue, papers, partners, services, warehouse
from shop_django.models import Category, Customer, Job, Order, Product, Setting


def answer(value):
    return JsonResponse(value, safe=False)


def setting(name):
    return Setting.objects.get(name=name).value


def home(request):
    return answer([product.as_dict() for product in Product.objects.order_by("-id")[:8]])


def products(request):
    found = Product.objects.order_by("-id")
    if "before" in request.GET:
        found = found.filter(id__lt=request.GET["before"])
    return answer([product.as_dict() for product in found[:20]])


def product(request, number):
    return answer(get_object_or_404(Product, id=number).as_dict())


def order(request, number):
    return answer(_order(number))


def _order(number):
    found = get_object_or_404(Order.objects.select_related("product"), id=number)
    return {"id": found.id, "product": found.product.as_dict(), "total": str(found.total)}


def customer_orders(request, number):
    found = Order.objects.filter(customer_id=number).select_related("product")
    return answer(len([{"id": order.id, "product": order.product.name} for order in found]))


def best_customers(request):
    bought = Order.objects.filter(customer=OuterRef("id")).order_by().values("customer").annotate(sum=Sum("total"))
    found = Customer.objects.filter(region=request.GET["region"]).annotate(bought=Subquery(bought.values("sum")))
    return answer([{"name": name, "total": str(total)} for name, total in found.values_list("name", "bought")[:5000]])


def cart(request):
    quantity = int(request.POST["quantity"])
    Product.objects.filter(id=request.POST["product"]).update(stock=F("stock") - quantity)
    return answer(dict(request.POST))


def cart_size(request, customer):
    return answer(services.cart_size(customer))


def search(request):
    if not catalogue.is_search(request.GET["q"]):
        return answer([])
    return answer([product.as_dict() for product in Product.objects.order_by("-id")[:5]])


def newsletter(request):
    return answer(catalogue.is_email(request.POST["email"]))


def reviews(request):
    return answer(catalogue.without_tags(request.POST["text"]))


def similar(request, number):
    found = Product.objects.filter(category_id=1 + number % 40).values_list("id", "price", "weight", "stock")
    others = [(row[0], float(row[1]), row[2], row[3]) for row in found]
    return answer(catalogue.similar((number, 9.0, 100, 1), others))


def duplicates(request, number):
    return answer(catalogue.duplicates(list(Product.objects.filter(category_id=number).values_list("name", flat=True))))


def category_path(request, number):
    return answer(catalogue.category_path(number, dict(Category.objects.values_list("id", "parent_id"))))


def delivery(request):
    return answer(catalogue.delivery_days(catalogue.today(), 4, int(setting("delivery_interval_days"))))


def login(request):
    return answer(catalogue.password_hash(request.POST["password"], int(setting("password_rounds"))))


def shipping(request, number):
    return answer(partners.shipping_quote(number))


def tracking(request, number):
    return answer(partners.tracking(number))


def taxes(request, number):
    return answer(partners.taxes(number))


def refund(request, number):
    return answer(partners.refund(number))


def rating(request, number):
    return answer(partners.rating(number))


def questions(request, number):
    return answer(partners.questions(number))


def availability(request, number):
    return answer(partners.availability(number))


def reorder(request, number):
    return answer(partners.reorder(number))


def restock(request, number):
    return answer(partners.restock_date(number))


def costs(request, number):
    return answer(partners.supplier_price(number))


def customs(request, number):
    return answer(partners.customs_form(number, int(request.GET.get("pages", 3))))


def offers(request, number):
    return answer(partners.checkout_offers(number))


def confirmation(request, number):
    return answer(services.confirmation(number))


def transfers(request):
    def book(direction, place):
        Job.objects.filter(id=place).update(status="done")

    warehouse.transfer(int(request.POST["source"]), int(request.POST["target"]), book)
    return answer(dict(request.POST))


def price(request, currency):
    return answer(warehouse.convert(10, currency, setting("rates_updated")))


def bundle(request):
    return answer(warehouse.bundle_price([9.5, 12.0, 3.25]))


def count(request):
    return answer(warehouse.counts.count(int(request.POST["pieces"])))


def shelves(request):
    return answer(services.shelf_movements(int(request.GET.get("aisles", 1))))


def take(request, number):
    return answer(services.take_from_shelf(number))


def invoice(request, number):
    return HttpResponse(papers.invoice(number))


def label(request, number):
    return HttpResponse(papers.label(number))


def archive(request, number):
    return answer(papers.archive(number))


def invoice_number(request, number):
    return answer(papers.next_number("invoices"))


def print_label(request, number):
    papers.print_label(number)
    return answer(number)


def upload(request, name):
    return answer(papers.save_upload(name, request.body))


# Until the customer confirms, the goods are theirs alone.
reservations = {}


def reserve(request, customer):
    connection = connections.create_connection("default")
    reservations[customer] = connection
    connection.set_autocommit(False)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE products SET stock = stock - 1 WHERE id = %s", [customer])
    return answer(customer)


def confirm(request, customer):
    connection = reservations.pop(customer)
    connection.commit()
    connection.close()
    return answer(customer)


def partner_feed(request):
    wait = float(setting("feed_interval_seconds"))
    if wait:
        time.sleep(wait)
    return answer([product.as_dict() for product in Product.objects.order_by("-id")[:50]])


def category_feed(request, number):
    found = Product.objects.filter(category_id=number).values_list("name", "description")
    return HttpResponse("".join([f"{name}\n{text.upper()}\n" for name, text in found]), content_type="text/plain")


def job_result(request, number):
    return answer(partners.wait_for_job(lambda: Job.objects.get(id=number).status))


def export_customer(request, number):
    numbers = list(Order.objects.filter(customer_id=number).values_list("id", flat=True))
    return answer([_order(number) for number in numbers])


def export_orders(request):
    line = "2026-03-02;1234;Product 77;1;19.99;shipped\r\n"
    return HttpResponse(line * int(request.GET.get("lines", 100)), content_type="text/csv")


def stream_orders(request):
    line = '{"id": 1234, "product": "Product 77", "total": "19.99"}\n'
    pieces = (line * 50 for _ in range(int(request.GET.get("lines", 100)) // 50))
    return StreamingHttpResponse(pieces, content_type="application/jsonl")
