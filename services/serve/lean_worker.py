"""The program of a worker of a lean Ray: Ray's own, with Serve imported by then.

Workers begin before anything asks for them, so nobody waits for this import.
"""

import runpy

from services.base.uncollected import uncollected

if __name__ == "__main__":
    with uncollected():
        from ray._private import workers

        from services.serve.lean_ray import import_serve

        import_serve()
    runpy.run_path(f"{workers.__path__[0]}/default_worker.py", run_name="__main__")
