"""Check a space against the families: which fields it may name, and which published networks are in it."""

from nasseg.errors import UserError, unknown
from nasseg.families import FAMILIES, Variant, get_family, make_arch, variants
from nasseg.space import Params, Space
from nasseg.study.recipe_parameters import check_fields


def check_space(space: Space) -> None:
    """Check what the space language cannot know: that families and fields exist.

    Raises:
        UserError: a family, or a field of an architecture or the recipe, does not exist (the nearest name is offered).
    """
    for family in space.families:
        if family not in FAMILIES and ":" not in family:
            raise unknown(f"family in space {space.name}", family, FAMILIES)
        get_family(family)
    holes = {f"{template.name}.{hole}" for template in space.templates.values() for hole in template.holes}
    check_fields(space)
    for name in [*(set(space.parameters) - holes - space.training.keys() - {"family"}), *space.templates]:
        prefix, _, rest = name.partition(".")
        families = [prefix] if prefix in space.families and rest else _families_of(space, name)
        field = rest if prefix in space.families and rest else name
        known = {field for family in families for field in get_family(family).param_names()}
        encoders = space.parameters["encoder"].values if "encoder" in space.parameters else ()
        for encoder in map(get_family, map(str, encoders)):
            known |= {f"{encoder.family}.{field}" for field in encoder.param_names()}
        if field not in known:
            raise unknown(f"parameter in space {space.name} (a field of {' or '.join(families)})", field, known)


def _families_of(space: Space, name: str) -> list[str]:
    """Return the families for which a parameter may be active."""
    when = dict(space.templates[name].when if name in space.templates else space.parameters[name].when)
    return [str(value) for value in when.get("family", space.families)]


def published_in(space: Space) -> dict[str, Params]:
    """Return the variants that are points of the space, with their points."""
    check_space(space)
    found: dict[str, Params] = {}
    for variant in variants().values():
        point = locate(space, variant)
        if point is not None:
            found[variant.name] = point
    return found


def locate(space: Space, variant: Variant) -> Params | None:
    if variant.family not in space.families:
        return None
    encoder = {name: value for name, value in variant.params.items() if name == "encoder"}  # it has its own defaults
    defaults = {"family": variant.family, **get_family(variant.family).from_params(encoder).params()}
    settings = {"family": variant.family, **make_arch(variant.name).params()}
    try:
        return space.locate(settings, defaults)
    except UserError:  # a template of the space needs a schedule, and this value is none
        return None
