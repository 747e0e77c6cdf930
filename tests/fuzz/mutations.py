"""Files that are damaged so that they get past what guards them: checksums, codes, syntax."""

from __future__ import annotations

import ast
import copy
import io
import json
import struct
import zipfile
import zlib
from collections.abc import Callable
from random import Random
from typing import Any

import nibabel
import numpy as np

#: Damages bytes of which nothing is known, and returns no more than so many.
Raw = Callable[[bytes, int], bytes]

#: Of any file.
LARGEST = 1 << 16

NUMBERS = (
    *(0, 1, -1, 2, 3, 255, 256, 2**31 - 1, 2**31, 2**63 - 1, 2**63, -(2**63), 10**30, 10**400),
    *(0.0, -0.0, 0.5, 1e-320, 1e-9, 1e9, 1e308, -1e308, float("nan"), float("inf"), -float("inf")),
)
TEXTS = (
    *("", " ", "0", "-1", "1e999", "nan", "8_16", "\x00", "\n", "\ud800", "\u202e", "../x", "/"),
    *("a" * 300, "$x_$", "<b>", "\\frac", "%", "{}", "{0}", "[red]", "=1+1", "ß" * 200, "tube"),
)
OTHERS = (None, True, False, [], {}, [[]], [None], {"": None})


def flipped(random: Random, content: bytes) -> bytes:
    """Change, drop, double or insert some bytes."""
    changed = bytearray(content)
    for _ in range(random.choice((1, 1, 2, 5))):
        at = random.randrange(len(changed) + 1)
        way = random.randrange(5)
        if way == 0:
            del changed[at:]
        elif way == 1:
            del changed[at : at + random.choice((1, 2, 4, 50))]
        elif way == 2:
            changed[at:at] = changed[at : at + random.choice((1, 8, 100))]
        elif way == 3:
            changed[at:at] = random.randbytes(random.choice((1, 4)))
        elif at < len(changed):
            changed[at] = random.choice((0, 255, changed[at] ^ 1 << random.randrange(8)))
    return bytes(changed[:LARGEST])


# JSON: values are exchanged, and it stays JSON.


def json_value(random: Random) -> Any:
    return copy.deepcopy(random.choice(random.choice((NUMBERS, TEXTS, OTHERS))))


def _places(value: Any, found: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    for key, part in value.items() if isinstance(value, dict) else enumerate(value):
        found.append((value, key))
        if isinstance(part, (dict, list)):
            _places(part, found)
    return found


def changed_json(random: Random, content: Any) -> Any:
    """Exchange, drop, double or move one to three values, in place; return the whole."""
    for _ in range(random.choice((1, 1, 2, 3))):
        places = _places(content, []) if isinstance(content, (dict, list)) else []
        if not places or random.random() < 0.01:
            content = json_value(random)
            continue
        holder, key = random.choice(places)
        value = holder[key]
        way = random.randrange(8)
        if way == 0:
            del holder[key]
        elif way == 1:
            holder[key] = [value] * random.choice((1, 2, 50 if len(str(value)) < 500 else 2))
        elif way == 2:
            holder[key] = copy.deepcopy(random.choice(places)[0])
        elif way == 3 and isinstance(holder, list):
            holder.insert(random.randrange(len(holder) + 1), copy.deepcopy(value))
        elif way == 3:
            holder[random.choice(TEXTS)] = holder.pop(key)
        elif way == 4 and isinstance(value, (int, float)):
            factor = random.choice((-1, 0.1, 1.1, 10, 1e6, 1e300))
            holder[key] = value * factor if abs(value) < 1e9 else 0
        elif way == 5:
            holder[key] = str(value) if len(str(value)) < 1000 else "long"
        else:
            holder[key] = json_value(random)
    return content


def json_mutated(random: Random, content: bytes, raw: Raw) -> bytes:
    if random.random() < 0.15:
        return raw(content, LARGEST)
    if random.random() < 0.005:
        depth = random.choice((500, 20_000))
        return b"[" * depth + b"]" * depth
    try:
        changed = changed_json(random, json.loads(content))
        return json.dumps(changed).encode()[:LARGEST]
    except (ValueError, RecursionError):  # raw bytes, or nested as deeply as nobody writes
        return raw(content, LARGEST)


# Tables.


def csv_mutated(random: Random, content: bytes, raw: Raw) -> bytes:
    if random.random() < 0.3:
        return raw(content, LARGEST)
    rows = [line.split(b",") for line in content.split(b"\n")]
    row = random.choice(rows)
    at = random.randrange(len(row))
    way = random.randrange(6)
    if way == 0:
        del row[at]
    elif way == 1:
        rows.insert(random.randrange(len(rows) + 1), list(random.choice(rows)))
    elif way == 2:
        row[at] = raw(row[at], 200)
    elif way == 3:
        row[at] = b'"' + row[at] + random.choice((b'"', b"", b'""', b'"x'))
    else:
        row[at] = str(json_value(random)).encode(errors="surrogatepass")
    return b"\n".join(b",".join(cells) for cells in rows)[:LARGEST]


# NIfTI: the first byte says how the others, which are not compressed, are stored.

HEADER = nibabel.Nifti1Header.template_dtype


def nifti_mutated(random: Random, content: bytes, raw: Raw) -> bytes:
    how, body = content[:1] or b"\0", content[1:]
    if random.random() < 0.1:
        how = bytes([random.randrange(8)])
    if random.random() < 0.25 or len(body) < HEADER.itemsize:
        return how + raw(body, LARGEST)
    header = np.frombuffer(bytearray(body[: HEADER.itemsize]), HEADER).copy()
    for _ in range(random.choice((1, 1, 2, 4))):
        name = random.choice(
            (*HEADER.names, "dim", "pixdim", "vox_offset", "datatype", "scl_slope")
        )
        field = header[name].reshape(-1)
        if field.dtype.kind == "S":
            header[name] = random.randbytes(random.randrange(1, 80))
            continue
        values = np.array(random.choice(NUMBERS[:-1] if field.dtype.kind == "f" else (0, 1)))
        if field.dtype.kind == "f":
            new = np.array(random.choice(NUMBERS), dtype=object)
            try:
                values = np.float64(float(new.item()))
            except OverflowError:
                values = np.float64(1e308)
        else:
            known = (0, 1, 2, 3, 4, 8, 16, 32, 64, 128, 256, 348, 512, 768, 1024, 1280, 1536, 2304)
            values = random.choice((*known, -1, 32767, -32768, random.randrange(256)))
        place = random.randrange(field.size)
        with np.errstate(all="ignore"):
            info = field.dtype
            field[place] = (
                np.int64(values).astype(info) if info.kind != "f" else values.astype(info)
            )
        header[name] = field.reshape(header[name].shape)
    return how + header.tobytes() + body[HEADER.itemsize :]


# NumPy arrays, alone and in archives.


def npy_mutated(random: Random, content: bytes, raw: Raw) -> bytes:
    """Change an array's description, and keep the length that stands before it true."""
    if random.random() < 0.3 or len(content) < 10:
        return raw(content, LARGEST)
    length = struct.unpack("<H", content[8:10])[0]
    text, data = content[10 : 10 + length], content[10 + length :]
    if random.random() < 0.3:
        data = raw(data, LARGEST)
    elif random.random() < 0.3:
        text = raw(text, 2000)
    else:
        try:
            text = repr(changed_json(random, ast.literal_eval(text.decode("latin1")))).encode()
        except (ValueError, SyntaxError, MemoryError, RecursionError, UnicodeError):
            text = raw(text, 2000)
    text = text[:60000] + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data


def with_checksum(content: bytes) -> bytes:
    """Return an entry of the cache with the checksum of what stands in it, where it has one."""
    try:
        entry = np.load(io.BytesIO(content), allow_pickle=False)
        total = 0
        for field in entry.dtype.names:
            if field != "checksum":
                total = zlib.crc32(np.ascontiguousarray(entry[field]).tobytes(), total)
        entry["checksum"] = total
    except Exception:
        return content
    file = io.BytesIO()
    np.save(file, entry)
    return file.getvalue()


def entry_mutated(random: Random, content: bytes, raw: Raw) -> bytes:
    changed = npy_mutated(random, content, raw)
    return with_checksum(changed) if random.random() < 0.7 else changed


def npz_mutated(random: Random, content: bytes, raw: Raw) -> bytes:
    if random.random() < 0.3:
        return raw(content, LARGEST)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        name = random.choice(list(members))
    except Exception:
        return raw(content, LARGEST)
    if random.random() < 0.1:
        members[random.choice(TEXTS[1:12])] = members.pop(name)
    elif random.random() < 0.1:
        del members[name]
    else:
        members[name] = npy_mutated(random, members[name], raw)
    file = io.BytesIO()
    way = random.choice((zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED, zipfile.ZIP_LZMA))
    with zipfile.ZipFile(file, "w", way) as archive:
        for member, array in members.items():
            named = member.replace("\0", "").encode("utf-8", "replace").decode()
            archive.writestr(named or "x", array)
    made = bytearray(file.getvalue())
    if random.random() < 0.2:
        # Flags (encrypted), the compression's code and sizes of a member stand here.
        at = made.rfind(b"PK\x01\x02") + random.randrange(6, 46)
        if 0 <= at < len(made):
            made[at] = random.choice((0, 1, 8, 9, 12, 14, 93, 99, 255))
    return bytes(made[:LARGEST])
