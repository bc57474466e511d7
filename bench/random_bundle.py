"""What the bundles of random models have in common: a generator, and nothing else that counts."""

from core.manifest import BlendSection, CandidateSection, GeneratorSection, Manifest, Provenance


def manifest(name: str, generator: GeneratorSection, *, items: int, users: int = 0) -> Manifest:
    """The manifest of a bundle that was not trained."""
    return Manifest(
        name=name,
        version="1",
        items=items,
        users=users,
        candidate=CandidateSection(
            max_history=1,
            transition_window=1,
            transition_decay=1,
            behavior_weight=1,
            transition_weight=0,
        ),
        generator=generator,
        blend=BlendSection(retrieval_weight=1, generator_weight=1, shortlist=100),
        provenance=Provenance(
            dataset=name, seed=0, config={}, git_revision="", created="", libraries={}
        ),
    )
