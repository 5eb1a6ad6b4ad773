"""Distill in all processes that torchrun starts; settings as small as a test wants."""

import os

import torch
import torch.distributed as dist

from skdistill import STMDistiller, TrajectoryBuffer, make_galaxies

if torch.cuda.is_available():
    torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
dist.init_process_group()
X, y = make_galaxies(36, size=8, random_state=0)
buffer = TrajectoryBuffer(n_teachers=2, n_epochs=2, width=4, depth=1, path="teachers")
distiller = STMDistiller(
    buffer=buffer, n_steps=2, max_total_iter=3, checkpoint="run", verbose=1
)
distiller.fit(X, y)
if dist.get_rank() == 0:
    distiller.synthetic_.save("distilled")
dist.destroy_process_group()
