"""Whether two names are of one function. Debuggers write one name in many ways: with or without parameters, template arguments,
return types, hashes, and what a compiler appends to the name of a part of a function."""

import re

# What GCC and LLVM append to the copy, or the part, of a function.
CLONE = re.compile(r"(\.(isra|constprop|part|cold|lto_priv|llvm|localalias|warm|actor|destroy|cleanup|resume)(\.\d+)*)+$|( \[clone [^]]*\])+$")


def groups_removed(name, opening, closing):
    """The name without what stands in these brackets, and without them."""
    text, depth = "", 0
    for at, character in enumerate(name):
        # "->" and "operator<<" are no brackets.
        if character == opening:
            depth += 1
        elif character == closing and not (closing == ">" and name[at - 1:at] == "-"):
            depth -= 1
        elif depth == 0:
            text += character
    return text


def plain(name):
    """The function's path, and nothing else."""
    name = CLONE.sub("", name.split("@")[0].strip())
    # Rust's hashes: of the function (legacy mangling), of a crate (v0).
    name = re.sub(r"::h[0-9a-f]{16}$|\[[0-9a-f]{5,16}\]", "", name)
    name = name.replace("(anonymous namespace)", "{anonymous}").replace("[abi:cxx11]", "")
    name = re.sub(r"operator(<<|>>|<=>|<=|>=|<|>|->|\(\))", lambda found: "operator" + found.group(1).translate(
        {ord("<"): "L", ord(">"): "G", ord("("): "C", ord(")"): "", ord("-"): "-"}), name)
    name = re.sub(r"\{\{closure\}\}|\{closure(_env)?#\d+\}", "{closure}", name)
    if name.startswith("<"):
        # Rust: <Type>::method, or <Type as Trait>::method. The type and the trait count.
        depth, end = 0, 0
        for at, character in enumerate(name):
            depth += (character == "<") - (character == ">" and name[at - 1] != "-")
            if depth == 0:
                end = at
                break
        inside = name[1:end]
        path = lambda part: groups_removed(part, "<", ">").strip()
        parts = [path(part) for part in inside.rsplit(" as ", 1)]
        kept = "<" + " as ".join(parts) + ">" if " as " in inside else parts[0]
        return kept + groups_removed(name[end + 1:], "<", ">").replace("::::", "::").removesuffix("::")
    name = groups_removed(groups_removed(name, "<", ">"), "(", ")")
    name = re.sub(r"( const| volatile|&)+(?=$|::)", "", name).replace("::::", "::").removesuffix("::")
    # A return type stands in front of the name of an instance of a template.
    return name.strip().split(" ")[-1]


def agree(ours, theirs):
    """Whether one of our names is one of theirs; so if neither has one."""
    if not ours or not theirs:
        return not ours and not theirs
    return bool({plain(name) for name in ours} & {plain(name) for name in theirs})
