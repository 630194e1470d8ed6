#include "cli/commands.h"

int main(int argc, char** argv) { return easel::cli::run_program({argv + 1, argv + argc}); }
