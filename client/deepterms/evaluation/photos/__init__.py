"""Build test photographs with known matches from files in published Debian, npm and PyPI packages."""
