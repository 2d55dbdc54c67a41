"""What Django loads of an app: its configuration."""

from __future__ import annotations

from django.apps import AppConfig

from millstream.app import Millstream
from millstream.authoring import current
from millstream.integrations.django.celery import DjangoCelery
from millstream.settings import Settings


class MillstreamConfig(AppConfig):  # type: ignore[misc]  # Django comes without types
    """millstream in a Django project: by the project's settings, with the tasks and flows of its apps.

    Attributes:
        celery: The app with Celery's names.
    """

    name = "millstream.integrations.django"
    label = "millstream"
    verbose_name = "millstream"
    celery: DjangoCelery

    def ready(self) -> None:
        """Read the settings, import the module `tasks` of each app, and make the process's app one of them.

        Raises:
            ImproperlyConfigured: One of Celery's settings is wrong.
            SettingsError: One of millstream's is.
            Exception: What the import of a module of tasks raises.
        """
        self.celery = DjangoCelery()
        self.celery.autodiscover_tasks(force=True)
        self.celery.finalize()  # which gives shared tasks their class
        current.set_factory(self.engine)

    def engine(self) -> Millstream:
        """Make an app of the project's settings, which knows all its tasks and flows.

        Raises:
            DuplicateNameError: Two different tasks or flows have one name.
        """
        made = Millstream(settings=Settings.load(**self.celery.settings()), imports=self.celery.modules())
        made.registry.take(self.celery)
        return made
