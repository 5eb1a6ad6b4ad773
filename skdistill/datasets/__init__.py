"""Images to distil: simulated galaxies and Galaxy Zoo 2."""

from skdistill.datasets._galaxies import make_galaxies
from skdistill.datasets._galaxy_zoo import load_galaxy_zoo2

__all__ = ["load_galaxy_zoo2", "make_galaxies"]
