"""Pages that a deploy changes. Each scenario has a copy of this file, which `faults` writes anew. What the shop's other pages do is in
`shop`."""

from shop import app, fetched

# Of each customer of a region the dearest order: one look into an index each.
BELONGS = "orders.customer = customers.id"
COST = 3_000_000


@app.get("/customers/best")
def best():
    return fetched(f"select id, (select max(total) from orders where {BELONGS}) from customers where region = 1")


@app.get("/products/similar")
def similar():
    return str(sum(number * number for number in range(COST)))
