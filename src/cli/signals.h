#pragma once

namespace easel::cli {

// SIGINT and SIGTERM end the run at the next step with what is finished kept; a second one ends it at once. SIGPIPE and
// SIGXFSZ become errors of the write that met them.
void install_signal_handlers();

}  // namespace easel::cli
