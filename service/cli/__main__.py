"""``python -m service.cli`` is ``crm``."""

from service.cli.main import main

main()
