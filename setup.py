"""What pyproject.toml cannot say: the native core is part of the build only where Rust is."""

from native_core import MANIFEST, obstacle  # lies in tools, as the build backend does
from setuptools import setup
from setuptools_rust import Binding, RustExtension

core = RustExtension("forwarder.native._core", str(MANIFEST), binding=Binding.PyO3, debug=False)
setup(rust_extensions=[] if obstacle() else [core])
