"""Dataset distillation in the manner of scikit-learn.

skdistill condenses a large labeled image set into a few synthetic images per
class on which a network trains almost as well as on the whole set.  Names are
loaded when they are first used: importing the package imports neither PyTorch nor
scikit-learn.
"""

import lazy_loader

from skdistill._version import __version__

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__all__ += ["__version__"]
