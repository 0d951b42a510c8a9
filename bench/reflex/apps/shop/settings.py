"""Where the shop's databases and partners are, from the environment."""

import os
from pathlib import Path

DATABASE_URL = os.environ["DATABASE_URL"]
# Connections that a process keeps to the database.
POOL_SIZE = int(os.environ.get("POOL_SIZE", "5"))
# Of the stock system (MariaDB), Redis, and the queue of the mail system.
STOCK_URL = os.environ.get("STOCK_URL", "")
REDIS_URL = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0")
QUEUE_URL = os.environ.get("QUEUE_URL", REDIS_URL)

CARRIER_URL = os.environ["CARRIER_URL"]
PAYMENTS_URL = os.environ["PAYMENTS_URL"]
REVIEWS_URL = os.environ["REVIEWS_URL"]
SUPPLIER_URL = os.environ["SUPPLIER_URL"]
FLAGS_URL = os.environ["FLAGS_URL"]

# Uploads, numbers, locks.
DATA = Path(os.environ["SHOP_DATA"])
UPLOADS = Path(os.environ.get("SHOP_UPLOADS", DATA / "uploads"))
