"""Bytes that the sections of a Mach-O file take in it. The file itself grows by whole pages (16 KiB on arm64) or not at all, and
its symbol tables depend on how it is stripped. Layout: <mach-o/loader.h>."""

import struct
import sys

LC_SEGMENT_64 = 0x19
ZERO_FILLED = {0x1, 0xC, 0x12}  # S_ZEROFILL, S_GB_ZEROFILL, S_THREAD_LOCAL_ZEROFILL

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
            if struct.unpack_from("<I", data, section + 64)[0] & 0xFF not in ZERO_FILLED:
                total += struct.unpack_from("<Q", data, section + 40)[0]
    at += size
print(total)
