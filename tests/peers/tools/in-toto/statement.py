"""Reads a DSSE envelope with the official protocol buffers: members that these do not know are errors.

    statement.py ENVELOPE TYPE
"""

import base64
import json
import sys

from google.protobuf import json_format
from in_toto_attestation.predicates.link.v0 import link_pb2
from in_toto_attestation.predicates.provenance.v1 import provenance_pb2
from in_toto_attestation.v1 import statement_pb2
from in_toto_attestation.v1.statement import Statement

PREDICATES = {
    "https://slsa.dev/provenance/v1": provenance_pb2.Provenance,
    "https://in-toto.io/attestation/link/v0.3": link_pb2.Link,
}

path, kind = sys.argv[1:]
with open(path, "rb") as file:
    payload = base64.b64decode(json.load(file)["payload"], validate=True)
statement = json_format.Parse(payload, statement_pb2.Statement())
Statement.copy_from_pb(statement).validate()
assert statement.predicate_type == kind, statement.predicate_type
predicate = json_format.Parse(json_format.MessageToJson(statement.predicate), PREDICATES[kind]())
if kind.startswith("https://slsa.dev/"):
    assert predicate.build_definition.build_type and predicate.run_details.builder.id
    assert predicate.run_details.metadata.started_on.seconds > 0
    sources = predicate.build_definition.resolved_dependencies
    assert all(source.uri or source.digest for source in sources)
else:
    assert predicate.name and all(material.name and material.digest for material in predicate.materials)
print(f"{len(statement.subject)} subjects")
