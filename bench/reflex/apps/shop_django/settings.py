"""Django's settings."""

from urllib.parse import urlsplit

from shop import partners, settings

_url = urlsplit(settings.DATABASE_URL)

SECRET_KEY = "only for a shop that sells nothing"
DEBUG = False
ALLOWED_HOSTS = ["127.0.0.1", "localhost"]
ROOT_URLCONF = "shop_django.urls"
INSTALLED_APPS = ["shop_django"]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": _url.hostname,
        "PORT": _url.port,
        "USER": _url.username,
        "PASSWORD": _url.password,
        "NAME": _url.path.lstrip("/"),
        "OPTIONS": {"pool": {"min_size": 1, "max_size": settings.POOL_SIZE, "timeout": 30}},
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
DATA_UPLOAD_MAX_MEMORY_SIZE = None
USE_TZ = False

FLAGS = partners.flags()
RATES = partners.exchange_rates()
