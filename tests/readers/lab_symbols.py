"""Breakpad symbol files for the lab's images, made of what LLVM's tools print of their tables: as dump_syms does, but with
nothing left out and nothing guessed. https://chromium.googlesource.com/breakpad/breakpad/+/HEAD/docs/symbol_files.md
"""

import os
import re
import shutil
import subprocess

REGISTERS = {
    "x86_64": "rax rdx rcx rbx rsi rdi rbp rsp r8 r9 r10 r11 r12 r13 r14 r15 rip".split(),
    "arm64": [f"x{n}" for n in range(31)] + ["sp"],
}
# As llvm-dwarfdump names them.
NAMES = {
    "x86_64": {name.upper(): f"${name}" for name in REGISTERS["x86_64"]},
    "arm64": {**{f"W{n}": f"x{n}" for n in range(31)}, "WSP": "sp"},
}
NAMES["x86_64"]["RIP"] = ".ra"
NAMES["arm64"]["W30"] = ".ra"


def tool(name):
    found = shutil.which(f"{name}-19") or shutil.which(name)
    if not found:
        raise FileNotFoundError(name)
    return found


def run(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


class Image:
    """What the tables of one image say."""

    def __init__(self, path, cpu):
        self.path, self.cpu = path, cpu
        self.name = os.path.basename(path)
        header = run(tool("llvm-otool"), "-l", path)
        self.uuid = re.search(r"uuid ([0-9A-F-]+)", header)[1].replace("-", "")
        segments = re.findall(r"segname (\S+)\s+vmaddr (0x[0-9a-f]+)\s+vmsize (0x[0-9a-f]+)", header)
        self.base = next(int(start, 16) for name, start, _ in segments if name == "__TEXT")
        self.sections = {
            name: (int(start, 16) - self.base, int(size, 16))
            for name, start, size in re.findall(r"sectname (\S+)\s+segname \S+\s+addr (0x[0-9a-f]+)\s+size (0x[0-9a-f]+)", header)
        }
        start, size = self.sections["__text"]
        functions = {}
        for line in run(tool("llvm-nm"), "-n", path).splitlines():
            found = re.match(r"([0-9a-f]+) [tT] (\S+)", line)
            if found and 0 <= int(found[1], 16) - self.base - start < size:
                functions.setdefault(int(found[1], 16) - self.base, found[2])
        self.functions = sorted(functions.items())
        self.compact = [
            (int(at, 16), int(encoding, 16))
            for at, encoding in re.findall(
                r"\[\d+\]: function offset=(0x[0-9a-f]+), +encoding(?:\[\d+\])?=(0x[0-9a-f]+)", run(tool("llvm-objdump"), "--unwind-info", path)
            )
        ]
        self.rows = self.read_rows() if "__eh_frame" in self.sections else {}

    def read_rows(self):
        """By function: end, and rows of (address, CFA rule, {register: rule})."""
        rows, current = {}, None
        for line in run(tool("llvm-dwarfdump"), "--eh-frame", self.path).splitlines():
            fde = re.search(r" FDE cie=\S+ pc=([0-9a-f]+)\.\.\.([0-9a-f]+)", line)
            if fde:
                current = (int(fde[2], 16) - self.base, [])
                rows[int(fde[1], 16) - self.base] = current
            elif " CIE" in line:
                current = None
            row = re.match(r"\s+0x([0-9a-f]+): CFA=(.*?)(?:: (.*))?$", line)
            if current and row:
                rules = re.split(r", (?=[A-Z0-9]+=)", row[3] or "")
                current[1].append((int(row[1], 16) - self.base, row[2], dict(rule.split("=", 1) for rule in rules if rule)))
        return rows

    def function(self, offset):
        """Name, and distance from its start."""
        for section in ("__stubs", "__stub_helper"):
            start, size = self.sections.get(section, (0, 0))
            if start <= offset < start + size:
                return section, offset - start
        best = ("?", offset)
        for start, name in self.functions:
            if start <= offset:
                best = (name, offset - start)
        return best

    def encoding(self, offset):
        """The compact encoding, 0 for none."""
        found = 0
        for start, encoding in self.compact:
            if start <= offset:
                found = encoding
        return found

    def is_outermost(self, offset):
        """Whether the tables say that what runs here has no caller."""
        row = self.row(offset)
        return bool(row) and row[1].get("RIP" if self.cpu == "x86_64" else "W30") == "undefined"

    def row(self, offset):
        """The row of __eh_frame for an address: CFA, and rules of registers; None if there is none."""
        for start, (end, rows) in self.rows.items():
            if start <= offset < end:
                found = [(cfa, rules) for at, cfa, rules in rows if at <= offset]
                return found[-1] if found else None
        return None

    def dwarf_is_unsaid(self, offset):
        """Whether the row has rules other than places on the stack."""
        row = self.row(offset)
        return bool(row) and any(not rule.startswith("[CFA") for rule in row[1].values())

    def write(self, folder):
        """Writes NAME/ID/NAME.sym."""
        identifier = self.uuid + "0"
        path = os.path.join(folder, self.name, identifier)
        os.makedirs(path, exist_ok=True)
        ends = [start for start, _ in self.functions[1:]] + [sum(self.sections["__text"])]
        with open(os.path.join(path, self.name + ".sym"), "w", encoding="utf-8") as file:
            print(f"MODULE mac {self.cpu} {identifier} {self.name}", file=file)
            for (start, name), end in zip(self.functions, ends):
                print(f"FUNC {start:x} {end - start:x} 0 {name}", file=file)
            compact_ends = [start for start, _ in self.compact[1:]] + [sum(self.sections["__text"])]
            for (start, encoding), end in zip(self.compact, compact_ends):
                rule = self.compact_rule(encoding)
                if rule:
                    print(f"STACK CFI INIT {start:x} {end - start:x} {rule}", file=file)
            for start, (end, rows) in sorted(self.rows.items()):
                for index, (at, cfa, rules) in enumerate(rows):
                    text = self.dwarf_rule(cfa, rules)
                    if text is None:
                        break
                    head = f"STACK CFI INIT {start:x} {end - start:x}" if index == 0 else f"STACK CFI {at:x}"
                    print(f"{head} {text}", file=file)

    def compact_rule(self, encoding):
        mode = encoding >> 24 & 15
        if self.cpu == "x86_64" and mode == 1:
            text = ".cfa: $rbp 16 + .ra: .cfa 8 - ^ $rbp: .cfa 16 - ^"
            below = 16 + (encoding >> 16 & 0xFF) * 8
            for slot in range(5):
                which = encoding >> (3 * slot) & 7
                if which:
                    name = ["", "$rbx", "$r12", "$r13", "$r14", "$r15", "$rbp"][which]
                    text += f" {name}: .cfa {below - 8 * slot} - ^"
            return text
        if self.cpu == "x86_64" and mode == 2:
            return f".cfa: $rsp {(encoding >> 16 & 0xFF) * 8} + .ra: .cfa 8 - ^"
        if self.cpu == "arm64" and mode == 4:
            text, below = ".cfa: x29 16 + .ra: .cfa 8 - ^ x29: .cfa 16 - ^", 16
            for pair in range(5):
                if encoding >> pair & 1:
                    for register in (19 + 2 * pair, 20 + 2 * pair):
                        below += 8
                        text += f" x{register}: .cfa {below} - ^"
            return text
        if self.cpu == "arm64" and mode == 2:
            return f".cfa: sp {(encoding >> 12 & 0xFFF) * 16} + .ra: x30"
        return None

    def dwarf_rule(self, cfa, rules):
        names = NAMES[self.cpu]
        found = re.match(r"([A-Z0-9]+)([+-]\d+)?$", cfa)
        if not found:
            return None
        text = f".cfa: {names[found[1]] if found[1] != 'W30' else 'x30'} {int(found[2] or 0)} +"
        if self.cpu == "arm64":
            text += " .ra: x30"
        for register, rule in rules.items():
            saved = re.match(r"\[CFA([+-]\d+)\]$", rule)
            if saved and register in names:
                text += f" {names[register]}: .cfa {-int(saved[1])} - ^"
        return text
