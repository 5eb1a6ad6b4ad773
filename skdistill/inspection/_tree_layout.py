"""Decision trees: their questions, their leaves and where to draw each."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from skdistill.curation import GalaxyZooCurator
from skdistill.curation._tree import TREES, VoteTree, parse_tree
from skdistill.utils._labels import one_label_each

# The numbers in names of questions and answers of Galaxy Zoo: t02_edgeon, a04_yes.
_NUMBER = re.compile(r"[ta]\d\d_")

MAX_LEAVES = 40  # of a larger tree only a part can be read


@dataclass
class Node:
    """A question of a tree, or a leaf.

    Attributes
    ----------
    depth : int
        Number of answers on the way to it.
    answer : str
        The answer that leads to it from the question above; "" for the root.
    question : str
        What is asked here; "" for a leaf.
    leaf : str
        The name of the class; "" for a question.
    children : list of Node
        What the answers lead to.
    x : float
        Its place from left to right; the leaves are evenly spaced.
    """

    depth: int
    answer: str = ""
    question: str = ""
    leaf: str = ""
    children: list["Node"] = field(default_factory=list)
    x: float = 0.0

    def leaves(self) -> list["Node"]:
        """Return the leaves below, from left to right."""
        if self.leaf:
            return [self]
        return [leaf for child in self.children for leaf in child.leaves()]


def tree_of(tree: Any) -> VoteTree:
    """Read a tree, or take that of a curator; None stands for that of nine classes."""
    if isinstance(tree, GalaxyZooCurator):
        tree = tree.tree
    if isinstance(tree, VoteTree):
        return tree
    if tree is None:
        tree = "nine"
    if isinstance(tree, str):
        if tree not in TREES:
            raise ValueError(
                f"`tree` as a name must be one of {sorted(TREES)}; got {tree!r}"
            )
        tree = TREES[tree]()
    return parse_tree(tree)


def pruned(tree: VoteTree, leaves: Collection[str]) -> VoteTree:
    """Return a tree with nothing but some of its leaves and the ways to them."""
    return replace(
        tree, leaves={name: way for name, way in tree.leaves.items() if name in leaves}
    )


def grow(tree: VoteTree, spacing: float = 1.0) -> Node:
    """Make nodes of the ways to the leaves, and place them.

    Parameters
    ----------
    tree : VoteTree
    spacing : float, default=1.0
        From one leaf to the next.

    Returns
    -------
    root : Node
    """
    root = Node(0)
    nodes: dict[tuple[tuple[str, ...], ...], Node] = {(): root}
    for leaf, way in tree.leaves.items():
        for depth, (question, step) in enumerate(
            zip(tree.questions[leaf], way, strict=True), start=1
        ):
            here = way[:depth]
            if here not in nodes:
                nodes[here] = Node(depth, _answer(question, step))
                parent = nodes[way[: depth - 1]]
                parent.question = _asked(question)
                parent.children.append(nodes[here])
        nodes[way].leaf = leaf
    for number, leaf_node in enumerate(root.leaves()):
        leaf_node.x = number * spacing
    _place(root)
    return root


def leaf_positions(
    labels: Any, names: Sequence[str], name: str = "labels"
) -> np.ndarray:
    """Return which leaf each label belongs to.

    Parameters
    ----------
    labels : array-like of shape (n_labels,)
        Names of leaves, or their positions in the order of the tree.
    names : sequence of str
        The names of all leaves, in that order.
    name : str, default="labels"
        Of the parameter, for messages.

    Returns
    -------
    positions : ndarray of shape (n_labels,), int
    """
    labels = one_label_each(labels, name)
    if labels.dtype.kind in "iu":
        wrong = (labels < 0) | (labels >= len(names))
        positions = labels.astype(np.int64)
    else:
        place = {name: number for number, name in enumerate(names)}
        found = [place.get(str(label), -1) for label in labels.tolist()]
        positions = np.asarray(found, dtype=np.int64)
        wrong = positions < 0
    if wrong.any():
        some = list(names[:12]) + ["..."] * (len(names) > 12)
        raise ValueError(
            f"`{name}` must hold names of the tree's leaves, {some}, or their "
            f"positions from 0 to {len(names) - 1}; got {labels[wrong].tolist()[0]!r}"
        )
    return positions


def readable(leaf: str) -> str:
    """Return the name of a leaf without the numbers that Galaxy Zoo has in it."""
    parts = leaf.split(" > ")
    if not any(_NUMBER.match(part) for part in parts):
        return leaf
    return " > ".join(_words(part) for part in parts)


def _place(node: Node) -> None:
    if node.leaf:
        return
    for child in node.children:
        _place(child)
    node.x = (node.children[0].x + node.children[-1].x) / 2


def _answer(question: str, step: Sequence[str]) -> str:
    return " or ".join(_words(answer.removeprefix(f"{question}_")) for answer in step)


def _asked(question: str) -> str:
    """Return a question with one question mark, the user's if there is one."""
    words = _words(question)
    return words if any(mark in words for mark in "?\uff1f\u061f") else f"{words}?"


def _words(name: str) -> str:
    words = _NUMBER.sub("", name, count=1).replace("_", " ").strip()
    return "edge-on" if words == "edgeon" else words
