"""
====================================
How nine images learned to be taught
====================================

During a distillation losses decrease, more epochs of the teachers are matched, and the
images change.  :class:`~skdistill.inspection.MatchingDisplay` shows the first two,
:class:`~skdistill.inspection.EvolutionDisplay` the third.
"""

import tempfile
from pathlib import Path

from skdistill import ChannelScaler, STMDistiller, TrajectoryBuffer, make_galaxies
from skdistill.inspection import EvolutionDisplay, ImageRecorder, MatchingDisplay

X, y = make_galaxies(360, size=24, random_state=0)
scaler = ChannelScaler()
X_scaled = scaler.fit_transform(X)

# %%
# A recorder
# ----------
#
# It is a callback for scikit-learn 1.9 or newer.  It keeps at most ``max_frames``
# frames, evenly spaced, and the last, for a fit of any length.

recorder = ImageRecorder(max_frames=40)
teachers = TrajectoryBuffer(n_teachers=2, n_epochs=6, width=16, random_state=0)
distiller = STMDistiller(
    buffer=teachers, n_steps=10, max_total_iter=80, init="noise", random_state=0
)
distiller.set_callbacks(recorder).fit(X_scaled, y)
print(distiller.stages_[["n_epochs_matched", "first_iteration", "n_iter"]])

# %%
# Losses, epochs matched, step size
# ---------------------------------
#
# The matching loss is that of the epochs in the pool; the validation loss is that of
# the next one, which is not matched yet.  When it decreases significantly, that epoch
# is added: a dotted line marks the expansion of the pool.  A loss of 1 is that of a
# student that did not move.

MatchingDisplay.from_estimator(distiller)

# %%
# The images during the distillation
# ----------------------------------
#
# Starting from noise, the center becomes bright, and colors develop: the smooth galaxy
# at the top turns yellow, the spirals at the bottom blue.

display = EvolutionDisplay.from_recorder(
    recorder, preprocessing=scaler, classes=[0, 4, 5, 7], n_columns=7
)

# %%
# The same as an animation.  A name that ends in ``.mp4`` creates a video, with ffmpeg.

path = Path(tempfile.mkdtemp()) / "evolution.gif"
display.save(path)
print(f"{len(display.frames)} frames, {path.stat().st_size / 1e3:.0f} kB")
