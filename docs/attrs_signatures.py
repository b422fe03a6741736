"""Shows the signatures of attrs' classes in the reference: no file spells their `__init__`."""

from importlib import import_module

import attrs
from griffe import Class, Extension, Function, Parameter, ParameterKind, Parameters


class AttrsSignatures(Extension):
    """Gives each class of attrs its `__init__`: types as they are written, defaults as they are."""

    def on_class(self, *, cls: Class, **_: object) -> None:
        paths = [decorator.callable_path for decorator in cls.decorators]
        if not {"attrs.frozen", "attrs.define"}.intersection(paths):
            return
        actual: type[attrs.AttrsInstance] = getattr(import_module(cls.module.path), cls.name)
        parameters = [Parameter("self", kind=ParameterKind.positional_or_keyword)]
        parameters += [parameter(cls, each) for each in attrs.fields(actual) if each.init]
        parameters.sort(key=lambda each: each.kind is ParameterKind.keyword_only)
        init = Function("__init__", parameters=Parameters(*parameters), returns="None", parent=cls)
        cls.set_member("__init__", init)


def parameter(cls: Class, each: "attrs.Attribute[object]") -> Parameter:
    default: str | None = repr(each.default)
    if each.default is attrs.NOTHING:
        default = None
    elif isinstance(each.default, attrs.Factory):
        default = "..."
    return Parameter(
        each.alias or each.name,
        annotation=cls.all_members[each.name].annotation,
        kind=ParameterKind.keyword_only if each.kw_only else ParameterKind.positional_or_keyword,
        default=default,
    )
