"""The views beside the admin."""

import hashlib

from django.conf import settings
from django.contrib.auth.models import Group
from django.db import transaction
from django.http import FileResponse, HttpResponse, HttpResponseRedirect, JsonResponse, StreamingHttpResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

BLOCK = 1 << 16


def index(request):
    return HttpResponse("<h1>Django</h1>")


def where(request, rest):
    return JsonResponse(
        {
            "rest": rest,
            "path": request.path,
            "query": request.GET.dict(),
            "scheme": request.scheme,
            "secure": request.is_secure(),
            "host": request.get_host(),
            "url": request.build_absolute_uri(),
            "remote": request.META["REMOTE_ADDR"],
            "forwarded": request.META.get("HTTP_X_FORWARDED_FOR"),
        }
    )


@csrf_exempt
@require_POST
def upload(request):
    """Name, size and checksum of every file of a form."""
    answer = {}
    for field, file in request.FILES.items():
        digest = hashlib.sha256()
        for chunk in file.chunks():
            digest.update(chunk)
        answer[field] = [file.name, file.size, digest.hexdigest()]
    return JsonResponse({"files": answer, "form": request.POST.dict()})


def download(request):
    """So many blocks, each with another content."""
    blocks = int(request.GET["blocks"])
    pieces = (hashlib.sha256(b"%d" % number).digest() * (BLOCK // 32) for number in range(blocks))
    return StreamingHttpResponse(pieces, content_type="application/octet-stream")


def file(request):
    return FileResponse((settings.FOLDER / "data.bin").open("rb"), as_attachment=True, filename="data.bin")


def moved(request):
    return HttpResponseRedirect(request.build_absolute_uri("/"))


@csrf_exempt
@require_POST
def visits(request):
    """One row more in the database; tells how many there are."""
    with transaction.atomic():
        count = Group.objects.count()
        Group.objects.create(name=f"visit {count}")
    return JsonResponse({"count": count + 1})


def crash(request):
    raise RuntimeError("this page always fails")
