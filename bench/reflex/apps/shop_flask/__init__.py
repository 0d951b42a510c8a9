"""The shop on Flask, with SQLAlchemy and psycopg2."""

from flask import Flask, Response, abort, jsonify, request

from shop import catalogue, models, papers, partners, services, warehouse

app = Flask(__name__)
app.config["FLAGS"] = partners.flags()
app.config["RATES"] = partners.exchange_rates()


def found(value):
    return jsonify(value) if value is not None else abort(404)


@app.get("/")
def home():
    return jsonify(models.newest(8))


@app.get("/products")
def products():
    return jsonify(models.newest(20, request.args.get("before", type=int)))


@app.get("/products/<int:number>")
def product(number):
    return found(models.product(number))


@app.get("/orders/<int:number>")
def order(number):
    return found(models.order(number))


@app.get("/customers/<int:number>/orders")
def customer_orders(number):
    return jsonify(len(models.customer_orders(number)))


@app.get("/customers/best")
def best_customers():
    return jsonify(models.best_customers(request.args["region"]))


@app.post("/cart")
def cart():
    models.into_cart(int(request.form["product"]), int(request.form["quantity"]))
    return jsonify(request.form)


@app.get("/cart/<int:customer>/size")
def cart_size(customer):
    return jsonify(services.cart_size(customer))


@app.get("/search")
def search():
    return jsonify(models.newest(5) if catalogue.is_search(request.args["q"]) else [])


@app.post("/newsletter")
def newsletter():
    return jsonify(catalogue.is_email(request.form["email"]))


@app.post("/reviews")
def reviews():
    return jsonify(catalogue.without_tags(request.form["text"]))


@app.get("/products/<int:number>/similar")
def similar(number):
    others = models.category_products(1 + number % 40)
    return jsonify(catalogue.similar((number, 9.0, 100, 1), others))


@app.get("/categories/<int:number>/duplicates")
def duplicates(number):
    return jsonify(catalogue.duplicates(models.names(number)))


@app.get("/categories/<int:number>/path")
def category_path(number):
    return jsonify(catalogue.category_path(number, models.parents()))


@app.get("/delivery")
def delivery():
    interval = int(models.setting("delivery_interval_days"))
    return jsonify(catalogue.delivery_days(catalogue.today(), 4, interval))


@app.post("/login")
def login():
    return jsonify(catalogue.password_hash(request.form["password"], int(models.setting("password_rounds"))))


@app.get("/orders/<int:number>/shipping")
def shipping(number):
    return partners.shipping_quote(number)


@app.get("/orders/<int:number>/tracking")
def tracking(number):
    return partners.tracking(number)


@app.get("/orders/<int:number>/taxes")
def taxes(number):
    return partners.taxes(number)


@app.post("/orders/<int:number>/refund")
def refund(number):
    return partners.refund(number)


@app.get("/products/<int:number>/rating")
def rating(number):
    return partners.rating(number)


@app.get("/products/<int:number>/questions")
def questions(number):
    return partners.questions(number)


@app.get("/products/<int:number>/availability")
def availability(number):
    return partners.availability(number)


@app.post("/products/<int:number>/reorder")
def reorder(number):
    return partners.reorder(number)


@app.get("/products/<int:number>/restock")
def restock(number):
    return partners.restock_date(number)


@app.get("/products/<int:number>/costs")
def costs(number):
    return partners.supplier_price(number)


@app.get("/orders/<int:number>/customs")
def customs(number):
    return jsonify(partners.customs_form(number, request.args.get("pages", 3, type=int)))


@app.get("/orders/<int:number>/offers")
def offers(number):
    return jsonify(partners.checkout_offers(number))


@app.post("/orders/<int:number>/confirmation")
def confirmation(number):
    return jsonify(services.confirmation(number))


@app.post("/transfers")
def transfers():
    warehouse.transfer(int(request.form["source"]), int(request.form["target"]), models.book)
    return jsonify(request.form)


@app.get("/prices/<currency>")
def price(currency):
    return jsonify(warehouse.convert(10, currency, models.setting("rates_updated")))


@app.get("/bundles")
def bundle():
    return jsonify(warehouse.bundle_price([9.5, 12.0, 3.25]))


@app.post("/stock/count")
def count():
    return jsonify(warehouse.counts.count(int(request.form["pieces"])))


@app.get("/stock/shelves")
def shelves():
    return jsonify(services.shelf_movements(request.args.get("aisles", 1, type=int)))


@app.post("/stock/shelves/<int:number>/take")
def take(number):
    return jsonify(services.take_from_shelf(number))


@app.get("/orders/<int:number>/invoice")
def invoice(number):
    return papers.invoice(number)


@app.get("/orders/<int:number>/label")
def label(number):
    return papers.label(number)


@app.post("/orders/<int:number>/archive")
def archive(number):
    return jsonify(papers.archive(number))


@app.post("/orders/<int:number>/number")
def invoice_number(number):
    return jsonify(papers.next_number("invoices"))


@app.post("/orders/<int:number>/print")
def print_label(number):
    papers.print_label(number)
    return jsonify(number)


@app.post("/uploads/<name>")
def upload(name):
    return jsonify(papers.save_upload(name, request.get_data()))


@app.post("/reservations/<int:customer>")
def reserve(customer):
    models.reserve(customer, customer)
    return jsonify(customer)


@app.post("/reservations/<int:customer>/confirm")
def confirm(customer):
    models.confirm(customer)
    return jsonify(customer)


@app.get("/feeds/partners")
def partner_feed():
    models.throttle("feed_interval_seconds")
    return jsonify(models.newest(50))


@app.get("/feeds/category/<int:number>")
def category_feed(number):
    return Response("".join(models.feed(number)), mimetype="text/plain")


@app.get("/jobs/<int:number>/result")
def job_result(number):
    return jsonify(partners.wait_for_job(lambda: models.job_status(number)))


@app.get("/exports/customers/<int:number>")
def export_customer(number):
    return jsonify(models.export_rows(number))


@app.get("/exports/orders.csv")
def export_orders():
    line = "2026-03-02;1234;Product 77;1;19.99;shipped\r\n"
    return Response(line * request.args.get("lines", 100, type=int), mimetype="text/csv")


@app.get("/exports/orders.jsonl")
def stream_orders():
    line = '{"id": 1234, "product": "Product 77", "total": "19.99"}\n'
    lines = request.args.get("lines", 100, type=int)
    return Response((line * 50 for _ in range(lines // 50)), mimetype="application/jsonl")
