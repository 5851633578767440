"""Reads cases as JSON from standard input and writes what sev-snp-measure makes of them to standard output."""

import base64
import json
import sys

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils
from sevsnpmeasure import guest, id_block, vmm_types
from sevsnpmeasure.sev_mode import SevMode

VMMS = {"qemu": vmm_types.VMMType.QEMU, "ec2": vmm_types.VMMType.ec2, "gce": vmm_types.VMMType.gce}


def digest(case):
    return guest.calc_launch_digest(
        SevMode[case["mode"]],
        case["vcpus"],
        case["signature"],
        case["rom"],
        case["kernel"],
        case["initrd"],
        case["append"],
        case["features"],
        vmm_type=VMMS[case["vmm"]],
    ).hex()


def write_key(path, sec1):
    key = ec.generate_private_key(ec.SECP384R1())
    formats = serialization.PrivateFormat
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        formats.TraditionalOpenSSL if sec1 else formats.PKCS8,
        serialization.NoEncryption(),
    )
    with open(path, "wb") as file:
        file.write(pem)


def signed(case):
    """Blocks of sev-snp-measure for new keys: a dictionary of base64 texts."""
    write_key(case["id_key"], case["sec1"])
    write_key(case["author_key"], case["sec1"])
    text = id_block.snp_calc_id_block(bytes.fromhex(case["digest"]), case["id_key"], case["author_key"])
    blocks, id_key, author_key = text.split("\n")
    block, auth = blocks.split(",")
    return {
        "id_block": block.removeprefix("id-block="),
        "id_auth": auth.removeprefix("id-auth="),
        "id_key": id_key.removeprefix("id_key_hash: "),
        "author_key": author_key.removeprefix("author_key: "),
    }


def verify(case):
    """Checks both signatures of an ID auth; raises if one is wrong."""
    block = base64.b64decode(case["id_block"])
    auth = base64.b64decode(case["id_auth"])

    def number(at):
        return int.from_bytes(auth[at : at + 72], "little")

    def check(key, signature, message):
        public = ec.EllipticCurvePublicNumbers(number(key + 4), number(key + 76), ec.SECP384R1()).public_key()
        both = utils.encode_dss_signature(number(signature), number(signature + 72))
        public.verify(both, message, ec.ECDSA(hashes.SHA384()))

    check(0x240, 0x040, block)
    check(0x880, 0x680, auth[0x240 : 0x240 + 1028])
    return "verified"


TASKS = {"digest": digest, "signed": signed, "verify": verify}
json.dump([TASKS[case["task"]](case) for case in json.load(sys.stdin)], sys.stdout)
