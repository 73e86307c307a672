"""Positions: how far a client has heard, as an opaque text. It holds one offset for each partition that is followed."""

import base64
import binascii

from handrail_gateway.live import PROJECTED, Offsets

MAX_TEXT = 400
MAX_OFFSET = 2**63


def encode_position(offsets: Offsets) -> str:
    data = bytearray()
    for place in PROJECTED:
        offset = offsets[place]
        while offset > 127:
            data.append(offset & 127 | 128)
            offset >>= 7
        data.append(offset)
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def decode_position(text: str) -> Offsets | None:
    """None if it is none of ours."""
    if len(text) > MAX_TEXT:
        return None
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        return None
    found, number, shift = [], 0, 0
    for byte in data:
        number |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            found.append(number)
            number = shift = 0
    if shift or len(found) != len(PROJECTED) or max(found) >= MAX_OFFSET:
        return None
    return dict(zip(PROJECTED, found, strict=True))


def behind(offsets: Offsets, ends: Offsets) -> int:
    """How many records lie between, at most."""
    return sum(max(0, end - offsets[place]) for place, end in ends.items())


def earliest(several: list[Offsets]) -> Offsets:
    return {place: min(offsets[place] for offsets in several) for place in PROJECTED}
