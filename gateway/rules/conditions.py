"""Whether one item satisfies a filter.

The services evaluate filters over a catalog, inside their searches. Here it is about the few items
that do not come out of a search: those that are pinned.
"""

from runtime.attributes import Attributes
from runtime.filters import AllOf, AnyOf, Filter, Not, OneOf, Range


def satisfies(condition: Filter, attributes: Attributes) -> bool:
    """Whether an item with these attributes satisfies the condition.

    As `runtime.filters.evaluate` finds for a catalog that has the item, save that an attribute
    which no item has is no mistake here: the search of the same request reports it.
    """
    match condition:
        case OneOf(attribute, values):
            return not set(values).isdisjoint(attributes.get(attribute, ()))
        case Range(attribute, low, high):
            own = attributes.get(attribute, ())
            return any(not isinstance(value, str) and low <= value <= high for value in own)
        case AllOf(filters):
            return all(satisfies(each, attributes) for each in filters)
        case AnyOf(filters):
            return any(satisfies(each, attributes) for each in filters)
        case Not(inner):
            return not satisfies(inner, attributes)
