"""A template is rewritten before it is compiled, so that it reports its work to the sandbox."""

from __future__ import annotations

from typing import Any

from jinja2 import nodes
from jinja2.visitor import NodeTransformer


class Reports(NodeTransformer):
    """Makes a template report its work: where something could be large, it first calls a method of Sandbox."""

    def generic_visit(self, node: nodes.Node, *args: Any, **kwargs: Any) -> nodes.Node:
        """The body of a loop, condition, macro … begins with a report of what is in it."""
        blocks = {field: getattr(node, field) for field in BODIES if field in node.fields}
        sizes = {field: (1 + sum(map(weight, block)), sum(map(text_length, block))) for field, block in blocks.items()}
        super().generic_visit(node, *args, **kwargs)
        for field, size in sizes.items():
            block = getattr(node, field)
            if block or field == "body":
                report = nodes.ExprStmt(reported("enter", *map(nodes.Const, size)))
                setattr(node, field, [report, *block])
        return node

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802 (so in Jinja)
        """The condition of a loop is evaluated for every item, also where no item passes."""
        self.generic_visit(node)
        if node.test is not None:
            node.test = reported("compared", node.test)
        return node

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:  # noqa: N802
        """A comparison takes as long as its sides are large."""
        self.generic_visit(node)
        node.expr = reported("compared", node.expr)
        for operand in node.ops:
            operand.expr = reported("searched" if operand.op in ("in", "notin") else "compared", operand.expr)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        """`a ~ b` makes a text."""
        self.generic_visit(node)
        return reported("join", nodes.List(node.nodes))

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:  # noqa: N802
        """A slice copies; a key is hashed."""
        self.generic_visit(node)
        if isinstance(node.arg, nodes.Slice):
            node.node = reported("copied", node.node)
        elif not isinstance(node.arg, nodes.Const):
            node.arg = reported("compared", node.arg)
        return node

    def visit_Pair(self, node: nodes.Pair) -> nodes.Node:  # noqa: N802
        """A key is hashed."""
        self.generic_visit(node)
        node.key = reported("compared", node.key)
        return node


BODIES = ("body", "else_")


def reported(method: str, *args: nodes.Node) -> nodes.Call:
    """A call of a method of Sandbox, which no template can spell."""
    return nodes.Call(nodes.EnvironmentAttribute(method), list(args), [], None, None)


def weight(node: nodes.Node) -> int:
    """How many expressions a statement evaluates, those in its own blocks apart."""
    return 1 + sum(map(weight, node.iter_child_nodes(exclude=BODIES)))


def text_length(node: nodes.Node) -> int:
    """How many characters a statement writes as they stand."""
    if not isinstance(node, nodes.Output):
        return 0
    return sum(len(child.data) for child in node.nodes if isinstance(child, nodes.TemplateData))
