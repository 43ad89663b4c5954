"""packages.py PACKAGE LICENCES BILL: what PACKAGE is made of, as cargo has it for this machine: LICENCES gets the text of every licence, BILL a bill
of materials (CycloneDX 1.5, JSON)."""

import json
import pathlib
import subprocess
import sys

root, licences, bill = sys.argv[1:]
host = next(line.split()[1] for line in subprocess.check_output(["rustc", "-vV"], text=True).splitlines() if line.startswith("host:"))
command = ["cargo", "metadata", "--format-version", "1", "--locked", "--filter-platform", host]
metadata = json.loads(subprocess.check_output(command))
packages = {package["id"]: package for package in metadata["packages"]}
nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}


def needs(node):
    """What is compiled into it or for it; not what its tests take."""
    return [dep["pkg"] for dep in node["deps"] if any(kind["kind"] != "dev" for kind in dep["dep_kinds"])]


first = next(id for id, package in packages.items() if package["name"] == root)
# The metadata have packages as well that no feature asks for; the tree has not.
tree = ["cargo", "tree", "--locked", "-p", root, "--edges", "normal,build", "--prefix", "none", "--format", "{p}"]
built = {tuple(line.split()[:2]) for line in subprocess.check_output(tree, text=True).splitlines() if line}
found = [id for id, package in packages.items() if (package["name"], f"v{package['version']}") in built]
found.sort(key=lambda id: (packages[id]["name"], packages[id]["version"]))


def texts(package):
    directory = pathlib.Path(package["manifest_path"]).parent
    names = [path for path in directory.iterdir() if path.name.upper().startswith(("LICENSE", "LICENCE", "COPYING", "NOTICE", "UNLICENSE"))]
    return [path.read_text(errors="replace").strip() for path in sorted(names) if path.is_file()]


def purl(package):
    return f"pkg:cargo/{package['name']}@{package['version']}"


with open(licences, "w") as file:
    own = [package for package in map(packages.get, found) if package["source"] is None]
    file.write("Quipu is MIT or Apache-2.0, as you like. These packages are in it, too:\n")
    for package in map(packages.get, found):
        if package not in own:
            file.write(f"\n{'=' * 80}\n{package['name']} {package['version']}: {package['license'] or 'see below'}\n{package['repository'] or ''}\n")
            for text in texts(package):
                file.write(f"\n{text}\n")

components = [
    {
        "type": "library",
        "bom-ref": purl(package),
        "name": package["name"],
        "version": package["version"],
        "purl": purl(package),
        **({"licenses": [{"expression": package["license"].replace("/", " OR ")}]} if package["license"] else {}),
    }
    for package in map(packages.get, found)
    if package["id"] != first
]
document = {
    "bomFormat": "CycloneDX",
    "specVersion": "1.5",
    "version": 1,
    "metadata": {"component": {"type": "application", "bom-ref": purl(packages[first]), "name": root, "version": packages[first]["version"]}},
    "components": components,
    "dependencies": [{"ref": purl(packages[id]), "dependsOn": sorted(purl(packages[dep]) for dep in set(needs(nodes[id])) & set(found))} for id in found],
}
with open(bill, "w") as file:
    json.dump(document, file, indent=1)
