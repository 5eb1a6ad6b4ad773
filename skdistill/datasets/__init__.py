"""Simulated galaxies, Galaxy Zoo 2, CIFAR, and loaders of custom image sets."""

from skdistill.datasets._cifar import load_cifar10, load_cifar100
from skdistill.datasets._fetch import fetch_galaxy_zoo2
from skdistill.datasets._from_dataset import from_huggingface, from_torch_dataset
from skdistill.datasets._from_pictures import from_pil_images
from skdistill.datasets._galaxies import make_galaxies
from skdistill.datasets._galaxy_zoo import load_galaxy_zoo2
from skdistill.datasets._image_folder import load_image_folder

__all__ = [
    "fetch_galaxy_zoo2",
    "from_huggingface",
    "from_pil_images",
    "from_torch_dataset",
    "load_cifar10",
    "load_cifar100",
    "load_galaxy_zoo2",
    "load_image_folder",
    "make_galaxies",
]
