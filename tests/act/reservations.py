"""Pages with a pool of three connections, of which one forgets to give its own back."""

import os

from shop import app
from sqlalchemy import create_engine, text

SHOP = dict(word.split("=") for word in os.environ["DSN"].split())
ENGINE = create_engine("postgresql+psycopg2://{user}@{host}:{port}/{dbname}".format(**SHOP), pool_size=3, max_overflow=0)
HELD = []


@app.get("/cart")
def cart():
    with ENGINE.connect() as connection:
        return str(connection.execute(text("select count from stock where id = 1")).scalar())


@app.post("/reservations")
def reserve():
    connection = ENGINE.connect()
    connection.execute(text("select count from stock where id = 1"))
    # For when the customer confirms. Most never do.
    HELD.append(connection)
    return "reserved"
