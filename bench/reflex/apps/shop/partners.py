"""What the shop asks of its partners over HTTP. Written by several people over several years, with as many libraries."""

import json
import time
import urllib.request

import backoff
import httpx
import requests
import tenacity
import urllib3
from urllib3.util import Retry

from shop import settings

supplier = urllib3.PoolManager()


def shipping_quote(order):
    return requests.get(f"{settings.CARRIER_URL}/quotes/{order}").json()


def tracking(order):
    return requests.get(f"{settings.CARRIER_URL}/parcels/{order}", timeout=60).json()


def taxes(order):
    with httpx.Client(timeout=None) as client:
        return client.get(f"{settings.PAYMENTS_URL}/taxes/{order}").json()


def refund(order):
    with httpx.Client(timeout=60) as client:
        return client.post(f"{settings.PAYMENTS_URL}/refunds/{order}").json()


def rating(product):
    with urllib.request.urlopen(f"{settings.REVIEWS_URL}/ratings/{product}") as response:
        return json.load(response)


def questions(product):
    with urllib.request.urlopen(f"{settings.REVIEWS_URL}/questions/{product}", timeout=60) as response:
        return json.load(response)


def availability(product):
    return supplier.request("GET", f"{settings.SUPPLIER_URL}/stock/{product}").json()


def reorder(product):
    """The supplier is busy now and then."""
    with requests.Session() as session:
        session.mount("http://", requests.adapters.HTTPAdapter(max_retries=Retry(
            total=8, backoff_factor=1, status_forcelist=(502, 503), allowed_methods=None,
        )))
        return session.post(f"{settings.SUPPLIER_URL}/orders/{product}", timeout=3).json()


@tenacity.retry(wait=tenacity.wait_exponential(multiplier=2, max=20), stop=tenacity.stop_after_attempt(8))
def restock_date(product):
    response = httpx.get(f"{settings.SUPPLIER_URL}/dates/{product}", timeout=3)
    response.raise_for_status()
    return response.json()


@backoff.on_exception(backoff.expo, requests.RequestException, max_tries=8, factor=4, jitter=None)
def supplier_price(product):
    response = requests.get(f"{settings.SUPPLIER_URL}/prices/{product}", timeout=3)
    response.raise_for_status()
    return response.json()


def customs_form(order, pages):
    """The carrier hands its forms out page by page."""
    with requests.Session() as session:
        return [
            session.get(f"{settings.CARRIER_URL}/forms/{order}/{page}", timeout=5).json() for page in range(pages)
        ]


def checkout_offers(order):
    """What the order would cost with each carrier, insurer and payment: one after the other."""
    offers = []
    for kind in ("carriers", "insurances", "instalments"):
        offers.append(requests.get(f"{settings.PAYMENTS_URL}/offers/{kind}/{order}", timeout=4).json())
    return offers


def flags():
    """Which features are on; asked once, at the start."""
    return requests.get(f"{settings.FLAGS_URL}/flags").json()


def exchange_rates():
    """The day's rates; asked once, at the start."""
    with urllib.request.urlopen(f"{settings.FLAGS_URL}/rates") as response:
        return json.load(response)


def wait_for_job(status):
    """Waits until a job of the back office is over. `status()` tells how far it is."""
    while (now := status()) != "done":
        time.sleep(0.5)
    return now
