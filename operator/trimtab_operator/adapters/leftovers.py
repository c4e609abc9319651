"""Children of kinds that nothing is made of any more: they are listed now and then, and never watched.

The chart may have asked for another kind of exposure before. The cluster may not even serve that
kind, and a role of somebody's own making may not allow to look.
"""

import logging

from trimtab_operator.adapters.reflector import Lister
from trimtab_operator.domain.errors import Forbidden, Gone

log = logging.getLogger(__name__)


class LeftoverLister(Lister):
    """Lists what is left of such a kind into the store, which wakes the owners."""

    async def list(self) -> str:
        """Make the store equal to the server's list, if there can be any."""
        try:
            return await super().list()
        except Gone:
            return ""
        except Forbidden as error:
            log.warning("leftovers cannot be looked for", extra={"error": str(error)})
            return ""
