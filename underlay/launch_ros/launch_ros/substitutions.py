"""Where packages are."""

from ament_index_python.packages import PackageNotFoundError, get_package_prefix, get_package_share_directory
from launch.core import LaunchError, Substitution, text


class _Package(Substitution):
    find = None

    def __init__(self, package):
        self.package = package

    def perform(self, context):
        package = text(context, self.package)
        try:
            return type(self).find(package)
        except PackageNotFoundError as error:
            raise LaunchError(f"there is no package '{package}': is its workspace sourced?") from error


class FindPackageShare(_Package):
    find = staticmethod(get_package_share_directory)


class FindPackagePrefix(_Package):
    find = staticmethod(get_package_prefix)


FindPackage = FindPackagePrefix
