"""While a CPU trains, numbers below float32's normal range count as zero: products with them are slow."""

import subprocess
import sys

PROGRAM = """
import threading, torch
from earl.config.sections import Run
from earl.training.ranks import create_accelerator

tiny = torch.full((8,), 1e-20)
product = lambda: (tiny * 1e-20).max().item()
assert product() > 0, "this machine flushes by itself"
create_accelerator(Run(folder="unused", device="cpu", threads=2))
found = [product()]
worker = threading.Thread(target=lambda: found.append(product()))
worker.start()
worker.join()
print(found)
"""


def test_training_on_a_cpu_flushes_denormals_in_every_thread():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[0.0, 0.0]"
