"""Images to distil: simulated galaxies, Galaxy Zoo 2 and CIFAR."""

from skdistill.datasets._cifar import load_cifar10, load_cifar100
from skdistill.datasets._fetch import fetch_galaxy_zoo2
from skdistill.datasets._galaxies import make_galaxies
from skdistill.datasets._galaxy_zoo import load_galaxy_zoo2

__all__ = [
    "fetch_galaxy_zoo2",
    "load_cifar10",
    "load_cifar100",
    "load_galaxy_zoo2",
    "make_galaxies",
]
