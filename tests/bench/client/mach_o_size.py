"""Bytes that the sections of a Mach-O file take in it. The file itself grows by whole pages (16 KiB on arm64) or not at all, and
its symbol tables depend on how it is stripped. Layout: <mach-o/loader.h>.

The unwind section grows by whole pages of 4 KiB too, whatever is in them: of those the part in use is counted. Layout:
<mach-o/compact_unwind_encoding.h>."""

import struct
import sys

LC_SEGMENT_64 = 0x19
ZERO_FILLED = {0x1, 0xC, 0x12}  # S_ZEROFILL, S_GB_ZEROFILL, S_THREAD_LOCAL_ZEROFILL
UNWIND_PAGE = 4096
UNWIND_REGULAR, UNWIND_COMPRESSED = 2, 3


def unused_of_unwind_info(section):
    """Bytes of second-level pages that hold nothing."""
    index, count = struct.unpack_from("<2I", section, 20)
    unused = 0
    for row in range(count - 1):  # the last one only ends the range
        (page,) = struct.unpack_from("<I", section, index + 12 * row + 4)
        (kind,) = struct.unpack_from("<I", section, page)
        entries_at, entries = struct.unpack_from("<2H", section, page + 4)
        if kind == UNWIND_REGULAR:
            used = entries_at + 8 * entries
        elif kind == UNWIND_COMPRESSED:
            encodings_at, encodings = struct.unpack_from("<2H", section, page + 8)
            used = max(entries_at + 4 * entries, encodings_at + 4 * encodings)
        else:
            sys.exit(f"{sys.argv[1]}: unknown unwind page {kind}")
        unused += UNWIND_PAGE - used
    return unused


with open(sys.argv[1], "rb") as file:
    data = file.read()
magic, _, _, _, count, _, _, _ = struct.unpack_from("<8I", data)
if magic != 0xFEEDFACF:
    sys.exit(f"{sys.argv[1]}: not a 64-bit Mach-O file")
total = 0
at = 32
for _ in range(count):
    command, size = struct.unpack_from("<2I", data, at)
    if command == LC_SEGMENT_64:
        for index in range(struct.unpack_from("<I", data, at + 64)[0]):
            section = at + 72 + index * 80
            bytes_in_it, place = struct.unpack_from("<QI", data, section + 40)
            if struct.unpack_from("<I", data, section + 64)[0] & 0xFF not in ZERO_FILLED:
                total += bytes_in_it
            if data[section : section + 16].rstrip(b"\0") == b"__unwind_info":
                total -= unused_of_unwind_info(data[place : place + bytes_in_it])
    at += size
print(total)
