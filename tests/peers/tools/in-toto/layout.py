"""Writes a signed layout for the steps `source` and `build`, made by in-toto's own model.

    layout.py OUT FUNCTIONARY.pub OWNER.pem
"""

import sys

from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
from in_toto.models.layout import Inspection, Layout, Step
from in_toto.models.metadata import Metablock
from securesystemslib.signer import CryptoSigner, SSlibKey

out, functionary, owner = sys.argv[1:]
with open(functionary, "rb") as file:
    key = SSlibKey.from_crypto(load_pem_public_key(file.read()))
with open(owner, "rb") as file:
    signer = CryptoSigner(load_pem_private_key(file.read(), None))

source = Step(name="source", expected_products=[["CREATE", "in.txt"], ["DISALLOW", "*"]])
build = Step(
    name="build",
    expected_materials=[["MATCH", "in.txt", "WITH", "PRODUCTS", "FROM", "source"], ["DISALLOW", "*"]],
    expected_products=[["CREATE", "out.txt"], ["DISALLOW", "*"]],
)
build.set_expected_command_from_string("sh -c 'tr a-z A-Z < in.txt > out.txt'")
shipped = Inspection(
    name="shipped",
    expected_materials=[["MATCH", "out.txt", "WITH", "PRODUCTS", "FROM", "build"], ["DISALLOW", "out.txt"]],
)
shipped.set_run_from_string("true")

layout = Layout(expires="2100-01-01T00:00:00Z", steps=[source, build], inspect=[shipped])
layout.keys[key.keyid] = key.to_dict() | {"keyid": key.keyid}
for step in layout.steps:
    step.pubkeys = [key.keyid]
layout.validate()
metadata = Metablock(signed=layout)
metadata.create_signature(signer)
metadata.dump(out)
