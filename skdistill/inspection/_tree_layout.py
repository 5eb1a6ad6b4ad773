"""Decision trees: their questions, their leaves and where to draw each."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from skdistill.curation import GalaxyZooCurator
from skdistill.curation._tree import LEAVES

# A tree is a mapping from the name of each leaf to the steps on the way to it; a step
# is a tuple of answers, whose votes are summed.
Paths = Mapping[str, Sequence[Sequence[str]]]

_ANSWER = re.compile(r"t\d+_(?P<question>.+?)_a\d+_(?P<answer>.+)")


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
        What is asked here; "" for a leaf, or where it is not known.
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


def paths_of(tree: Any) -> Paths:
    """Return the paths of a tree, of a curator that has one, or of Galaxy Zoo 2."""
    if isinstance(tree, GalaxyZooCurator):
        tree = getattr(tree, "tree", None)
    if tree is None:
        return LEAVES
    if isinstance(tree, Mapping) and tree:
        return tree
    raise ValueError(
        "`tree` must be a mapping from the name of each class to the steps that lead "
        f"to it; got {tree!r}"
    )


def grow(paths: Paths, spacing: float = 1.0) -> Node:
    """Make nodes of the paths to the leaves, and place them.

    Parameters
    ----------
    paths : mapping of str to sequence of steps
        A step is a sequence of answers.
    spacing : float, default=1.0
        From one leaf to the next.

    Returns
    -------
    root : Node
    """
    root = Node(0)
    nodes: dict[tuple[tuple[str, ...], ...], Node] = {(): root}
    for leaf, path in paths.items():
        steps = tuple(tuple(step) for step in path)
        for depth in range(1, len(steps) + 1):
            way = steps[:depth]
            if way in nodes:
                continue
            question, answer = _read(way[-1])
            nodes[way] = Node(depth, answer)
            parent = nodes[way[:-1]]
            parent.children.append(nodes[way])
            # A task may have answers that only its sibling's name tells apart.
            parent.question = parent.question or question
        end = nodes[steps]
        if end.children or end.leaf or not steps:
            end.children.append(Node(len(steps) + 1, leaf=leaf))
        else:
            end.leaf = leaf
    for node in nodes.values():
        # A leaf that turned out to be a question for others.
        if node.leaf and node.children:
            node.children.insert(0, Node(node.depth + 1, leaf=node.leaf))
            node.leaf = ""
    for number, leaf_node in enumerate(root.leaves()):
        leaf_node.x = number * spacing
    _place(root)
    return root


def leaf_positions(labels: Any, names: Sequence[str]) -> np.ndarray:
    """Return which leaf each label belongs to.

    Parameters
    ----------
    labels : array-like of shape (n_labels,)
        Names of leaves, or their positions in the order of the tree's definition.
    names : sequence of str
        The names of all leaves, in that order.

    Returns
    -------
    positions : ndarray of shape (n_labels,), int
    """
    labels = np.asarray(labels)
    if labels.dtype.kind in "iu":
        wrong = (labels < 0) | (labels >= len(names))
        positions = labels.astype(np.int64)
    else:
        place = {name: number for number, name in enumerate(names)}
        found = [place.get(str(label), -1) for label in labels.tolist()]
        positions = np.asarray(found, dtype=np.int64)
        wrong = positions < 0
    if wrong.any():
        raise ValueError(
            "labels must be names of the tree's leaves, or their positions from 0 to "
            f"{len(names) - 1}; got {labels[wrong][0]!r}, and the leaves are "
            f"{list(names)}"
        )
    return positions


def _place(node: Node) -> None:
    if node.leaf:
        return
    for child in node.children:
        _place(child)
    node.x = (node.children[0].x + node.children[-1].x) / 2


def _read(step: Sequence[str]) -> tuple[str, str]:
    """Make words of the names of the answers of a step: its question, its answers."""
    read = [_ANSWER.fullmatch(answer) for answer in step]
    if all(read):
        questions = {match["question"] for match in read if match}
        answers = [match["answer"] for match in read if match]
        question = f"{_words(questions.pop())}?" if len(questions) == 1 else ""
        return question, " or ".join(_words(answer) for answer in answers)
    return "", " or ".join(_words(answer) for answer in step)


def _words(name: str) -> str:
    words = str(name).replace("_", " ").strip()
    return "edge-on" if words == "edgeon" else words
