"""Has a witness cosign our logs, with the client and the trees of the packages aics-witness and aics-tlog.

python feed.py FOLDER WITNESS-URL WITNESS-VKEY
"""

import sys
from pathlib import Path

from aics_tlog.tree import MerkleTree
from aics_witness.feeder import WitnessAhead, WitnessClient

folder, url, vkey = sys.argv[1:]
tree = MerkleTree(f"entry {number}".encode() for number in range(1000))


def submit(size):
    checkpoint = Path(folder, str(size), "log", "checkpoint").read_bytes()
    return WitnessClient(url, vkey).submit(checkpoint, tree.consistency_proof)


for size in (1, 2, 255, 256, 257, 300, 1000):
    print(size, submit(size), end="")
try:
    submit(300)
except WitnessAhead as error:
    print(error)
