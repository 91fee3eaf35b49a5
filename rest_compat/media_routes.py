"""The routes of files for messages."""

from __future__ import annotations

from dataclasses import replace

from resolvers.access import PUBLIC, READ, WRITE
from rest_compat import media
from rest_compat.endpoint import bare, operation, upload
from rest_compat.media import (
    LinkQuery,
    MediaLink,
    MediaObject,
    NewMedia,
    Resolved,
    ResolveRequest,
    UploadRequest,
    UploadTicket,
)
from rest_compat.shapes import Deleted

_PLACE = "/media/v1/media"
_OPERATIONS = (
    operation("POST", _PLACE, WRITE, media.bring, request=NewMedia, response=MediaObject),
    # Before those with an id.
    upload("POST", f"{_PLACE}/upload", WRITE, media.upload, response=MediaObject),
    operation("POST", f"{_PLACE}/prepare-upload", WRITE, media.prepare, request=UploadRequest, response=UploadTicket),
    # The ticket is the right.
    upload("PUT", f"{_PLACE}/uploads/{{ticket}}", PUBLIC, media.redeem, response=MediaObject),
    operation("POST", f"{_PLACE}/resolve", READ, media.resolve, request=ResolveRequest, response=Resolved),
    bare("GET", f"{_PLACE}/{{id}}/presign", READ, media.presign, response=MediaLink),
    # To its owner, and to whoever has a link.
    operation("GET", f"{_PLACE}/{{id}}", PUBLIC, media.show, request=LinkQuery, response=str),
    bare("DELETE", f"{_PLACE}/{{id}}", WRITE, media.remove, response=Deleted),
    operation("GET", "/api/media/{id}", PUBLIC, media.show, request=LinkQuery, response=str),
)
OPERATIONS = tuple(replace(one, has_plain_errors=True) for one in _OPERATIONS)
