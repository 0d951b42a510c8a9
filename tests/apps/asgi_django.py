"""A Django site in one file, served by ASGI: views of both kinds, streams, uploads, and consumers of Channels."""

import asyncio
import hashlib
import threading

import django
from channels.generic.websocket import AsyncJsonWebsocketConsumer, WebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from django.conf import settings

settings.configure(
    SECRET_KEY="only for tests",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF="asgi_django",
    INSTALLED_APPS=["channels"],
    MIDDLEWARE=["django.middleware.common.CommonMiddleware", "asgi_django.added"],
    CHANNEL_LAYERS={"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}},
    LOGGING_CONFIG=None,
)
django.setup()

from asgiref.sync import async_to_sync, sync_to_async  # noqa: E402
from django.core.asgi import get_asgi_application  # noqa: E402
from django.http import FileResponse, HttpResponse, JsonResponse, StreamingHttpResponse  # noqa: E402
from django.urls import path  # noqa: E402

SEEN = {}


def added(get_response):
    """Middleware of the old kind, which Django runs in a thread."""

    def middleware(request):
        response = get_response(request)
        response["X-Added"] = request.method
        return response

    return middleware


def told(request):
    return {
        "path": request.path,
        "query": request.GET.dict(),
        "scheme": request.scheme,
        "host": request.get_host(),
        "remote": request.META["REMOTE_ADDR"],
        "one": request.headers.get("X-One"),
        "body": request.body.decode(),
        "main": threading.current_thread() is threading.main_thread(),
    }


def sync(request, rest):
    return JsonResponse(told(request))


async def asynchronous(request, rest):
    await asyncio.sleep(0)
    return JsonResponse({**told(request), "thread": await sync_to_async(lambda: "from a thread")()})


def nested(request):
    """A thread that goes back into the loop."""

    async def inside():
        await asyncio.sleep(0)
        return threading.current_thread() is threading.main_thread()

    return JsonResponse({"inside": async_to_sync(inside)()})


async def stream(request):
    async def pieces():
        for number in range(200):
            yield f"{number}\n"
            await asyncio.sleep(0)

    return StreamingHttpResponse(pieces(), content_type="text/plain")


def sync_stream(request):
    return StreamingHttpResponse((f"{number}\n" for number in range(200)), content_type="text/plain")


async def endless(request):
    """Django cancels it when the client goes."""

    async def pieces():
        try:
            while True:
                yield b"x" * 1000
                await asyncio.sleep(0.01)
        finally:
            SEEN[request.GET["name"]] = "ended"

    return StreamingHttpResponse(pieces())


def upload(request):
    answer = {}
    for name, file in request.FILES.items():
        answer[name] = [file.name, file.size, hashlib.sha256(b"".join(file.chunks())).hexdigest()]
    return JsonResponse({"files": answer, "fields": request.POST.dict()})


def file(request):
    return FileResponse(open(__file__, "rb"), content_type="text/plain")


async def crash(request):
    raise RuntimeError("of the view")


async def seen(request):
    return JsonResponse({"seen": SEEN.get(request.GET["name"])})


urlpatterns = [
    path("", lambda request: HttpResponse("home")),
    path("sync/<path:rest>", sync),
    path("async/<path:rest>", asynchronous),
    path("nested", nested),
    path("stream", stream),
    path("sync_stream", sync_stream),
    path("endless", endless),
    path("upload", upload),
    path("file", file),
    path("crash", crash),
    path("seen", seen),
]


class Chat(AsyncJsonWebsocketConsumer):
    """Everybody in a room hears everybody, through the layer in this process's memory."""

    async def connect(self):
        self.room = self.scope["url_route"]["kwargs"]["room"]
        await self.channel_layer.group_add(self.room, self.channel_name)
        await self.accept()

    async def disconnect(self, code):
        SEEN[self.room] = int(code)
        await self.channel_layer.group_discard(self.room, self.channel_name)

    async def receive_json(self, content):
        await self.channel_layer.group_send(self.room, {"type": "said", "content": content})

    async def said(self, event):
        await self.send_json(event["content"])


class Echo(WebsocketConsumer):
    """Runs in a thread."""

    def receive(self, text_data=None, bytes_data=None):
        if text_data == "close":
            self.close(4001)
        else:
            self.send(text_data=text_data, bytes_data=bytes_data)


class Refusing(WebsocketConsumer):
    def connect(self):
        self.close()


consumers = [
    path("chat/<str:room>", Chat.as_asgi()),
    path("echo", Echo.as_asgi()),
    path("refuse", Refusing.as_asgi()),
]
django_app = get_asgi_application()
app = ProtocolTypeRouter({"http": django_app, "websocket": URLRouter(consumers)})
