"""`make bench NAME=tokenize`: the door to benchmarks/tokenize_race.py, under the name the command asks for.

The name is also that of a module of the standard library, which inspect and linecache import; and the folder of a
script comes first where Python looks. So for this script its folder goes last, and for every other script here that
imports `tokenize`, this file is the standard library's.
"""

import sys

if __name__ == "__main__":
    sys.path.append(sys.path.pop(0))
    from tokenize_race import main

    main()
else:
    import os
    from importlib.util import module_from_spec, spec_from_file_location

    _found = spec_from_file_location(__name__, os.path.join(os.path.dirname(os.__file__), "tokenize.py"))
    _module = module_from_spec(_found)
    sys.modules[__name__] = _module  # what `import` hands over is what stands here in the end
    _found.loader.exec_module(_module)
