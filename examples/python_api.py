"""The whole job in Python, on scikit-learn's scanned digits: from images to an exported winner.

    python examples/python_api.py

Give the folder of your own images in place of "digits", and "cifar" (32 pixels) or "tiny" (224) as the space.
The same with NNI's own classes is in examples/nni_classes.py.
"""

import logging

from nni_autoformer import EvolutionConfig, Limits, search, test, train
from nni_autoformer.export import export_subnet

logging.basicConfig(level=logging.INFO, format="%(message)s")

DATA = "digits"
supernet = train("digits", DATA, "runs/python_api/supernet", epochs=30, batch_size=64, lr=2e-3)
print({name: f"{accuracy:.1f} %" for name, accuracy in supernet.accuracies.items()})

found = search(
    supernet.checkpoint,
    DATA,
    "runs/python_api/search",
    limits=Limits(max_params=0.3),
    evolution=EvolutionConfig(generations=3),
)
for ranked in found.ranking[:3]:
    print(f"{ranked.accuracy:.2f} % {ranked.costs['params']:,} parameters: {ranked.architecture}")

tested = test(supernet.checkpoint, DATA, architecture=found.best.architecture)
print(f"{tested.top1:.2f} % on {tested.images} test images that neither training nor search has seen")

export_subnet(supernet.checkpoint, found.best.architecture, "torch-export", "runs/python_api/best.pt2")
