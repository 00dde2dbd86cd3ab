"""Makes the schemas of Cloud Run anew from its published API description (a "discovery document").

    python -m tests.deploy.draw_schemas FOLDER     # with run.v1.json and run.v2.json

The package google-api-python-client has both, in googleapiclient/discovery_cache/documents. Kept are names
and types of what can be set: no texts, nothing that is read only or called not supported by Cloud Run.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
V1, V2 = HERE / "cloudrun-v1.json", HERE / "cloudrun-v2.json"
Node = dict[str, Any]
UNUSABLE = re.compile(
    r"^not supported (by|in) cloud run|^output only|system-generated|read-only", re.IGNORECASE
)
# The server's, or of products beside what is deployed here.
LEFT_OUT = {"Service.status", "Container.sandboxLauncher", "RevisionSpec.sandboxes"}
OTHERS = re.compile(
    r"build|sandbox|source.?code|base.?image|encryption|nfs|csi|filestore|cloud.?sql|mesh|iap|gpu|node.?selector"
    r"|runtime.?class|vpc|network|multi.?region|threat|ssh|workload|binary|functional",
    re.IGNORECASE,
)
ANNOTATION = re.compile(r"`([\w.]+/[\w-]+)`: ([^.*]+)")


def snake(name: str) -> str:
    """`minInstanceCount` as Terraform spells it."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


class Drawing:
    """The types that are reachable from one, as JSON Schema."""

    def __init__(self, types: Node, prefix: str, spelt: Callable[[str], str]) -> None:
        self._types, self._prefix, self._spelt = types, prefix, spelt
        self.defs: dict[str, Node] = {}

    def reach(self, name: str) -> Node:
        short = name.removeprefix(self._prefix)
        if short not in self.defs:
            self.defs[short] = {}
            self.defs[short] |= {
                "type": "object",
                "additionalProperties": False,
                "properties": dict(self._properties(name, short)),
            }
        return {"$ref": f"#/$defs/{short}"}

    def _properties(self, name: str, short: str) -> Iterator[tuple[str, Node]]:
        for key, node in sorted(self._types[name]["properties"].items()):
            told = node.get("description", "")
            if not (UNUSABLE.search(told[:160]) or OTHERS.search(key) or f"{short}.{key}" in LEFT_OUT):
                yield self._spelt(key), self._drawn(node)

    def _drawn(self, node: Node) -> Node:
        if "$ref" in node:
            return self.reach(node["$ref"])
        if node["type"] == "array":
            return {"type": "array", "items": self._drawn(node["items"])}
        if node["type"] == "object":
            return {"type": "object", "additionalProperties": self._drawn(node["additionalProperties"])}
        named = [value for value in node.get("enum", []) if not value.endswith("_UNSPECIFIED")]
        return {"type": node["type"]} | ({"enum": named} if named else {})


def annotations(told: str, kind: str) -> Node:
    """Those that the platform knows on a kind of resource; names of other domains are free."""
    known = {name for name, kinds in ANNOTATION.findall(told) if kind in kinds or "All resources" in kinds}
    return {
        "type": "object",
        "properties": {name: {"type": "string"} for name in sorted(known)},
        "patternProperties": {r"^(run\.googleapis\.com|autoscaling\.knative\.dev)/": {"type": "string"}},
        "propertyNames": {
            "anyOf": [
                {"enum": sorted(known)},
                {"not": {"pattern": r"^(run\.googleapis\.com|autoscaling\.knative\.dev)/"}},
            ]
        },
    }


def draw_v1(document: Node) -> Node:
    """Knative's Service, as `gcloud run services replace` takes it."""
    drawing = Drawing(document["schemas"], "", str)
    root = drawing.reach("Service")
    meta = drawing.defs.pop("ObjectMeta")
    told = document["schemas"]["ObjectMeta"]["properties"]["annotations"]["description"]
    for owner, kind in (("Service", "Service"), ("RevisionTemplate", "Revision")):
        own = {"annotations": annotations(told, kind)}
        drawing.defs[f"{kind}Meta"] = meta | {"properties": meta["properties"] | own}
        drawing.defs[owner]["properties"]["metadata"] = {"$ref": f"#/$defs/{kind}Meta"}
    return root | {"required": ["apiVersion", "kind", "metadata", "spec"], "$defs": drawing.defs}


def draw_v2(document: Node) -> Node:
    """The service of the second API, spelt as Terraform's provider does, whose resource is made from it."""
    drawing = Drawing(document["schemas"], "GoogleCloudRunV2", snake)
    return drawing.reach("GoogleCloudRunV2Service") | {"$defs": drawing.defs}


def main(folder: Path) -> None:
    for path, source, draw in ((V1, "run.v1.json", draw_v1), (V2, "run.v2.json", draw_v2)):
        document = json.loads((folder / source).read_text())
        note = f"made by tests/deploy/draw_schemas.py from the description of revision {document['revision']}"
        path.write_text(json.dumps({"$comment": note} | draw(document), indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
