"""What the tests of outputs share."""

from tests.app.pipeline.output.pipewire_daemon import daemon as daemon
