#include "cli/program.h"

#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <fstream>
#include <sstream>

#include "cli/commands.h"

namespace easel::testing {

namespace fs = std::filesystem;

namespace {

constexpr int kPatienceMilliseconds = 60'000;

struct Pipe {
  int read = -1, write = -1;
};

Pipe make_pipe() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) throw std::runtime_error("pipe2");
  return {ends[0], ends[1]};
}

Pipe make_terminal() {
  winsize size = {};
  size.ws_col = 60;
  int outer = -1, inner = -1;
  if (::openpty(&outer, &inner, nullptr, nullptr, &size) != 0) throw std::runtime_error("openpty");
  ::fcntl(outer, F_SETFD, FD_CLOEXEC);
  ::fcntl(inner, F_SETFD, FD_CLOEXEC);
  return {outer, inner};
}

int file_with(const std::string& content) {
  std::string pattern = (fs::temp_directory_path() / "easel-input-XXXXXX").string();
  const int fd = ::mkostemp(pattern.data(), O_CLOEXEC);
  ::unlink(pattern.c_str());
  if (::write(fd, content.data(), content.size()) != static_cast<ssize_t>(content.size()))
    throw std::runtime_error("write");
  ::lseek(fd, 0, SEEK_SET);
  return fd;
}

std::string make_folder() {
  std::string pattern = (fs::temp_directory_path() / "easel-cli-XXXXXX").string();
  return ::mkdtemp(pattern.data());
}

// Model hashes of this test program's runs, gone at its end.
struct Cache {
  const fs::path folder = make_folder();
  ~Cache() { fs::remove_all(folder); }
};

// The caller's own environment, but for what changes the program's answers.
Words environment_of(const Words& added) {
  static const Cache cache;
  Words all = {"EASEL_CACHE=" + cache.folder.string(), "TERM=xterm"};
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string text = *entry;
    if (!text.starts_with("EASEL_") && !text.starts_with("TERM=")) all.push_back(text);
  }
  all.insert(all.end(), added.begin(), added.end());
  return all;
}

std::vector<char*> pointers_to(Words& words) {
  std::vector<char*> pointers;
  for (std::string& word : words) pointers.push_back(word.data());
  pointers.push_back(nullptr);
  return pointers;
}

bool is_ordinary(const Surroundings& around) {
  const bool is_own = std::all_of(around.environment.begin(), around.environment.end(), [](const std::string& entry) {
    return entry.starts_with("EASEL_") || entry.starts_with("SLURM_");
  });
  return is_own && !around.keep_input_open && around.output_file.empty() && !around.close_output &&
         !around.break_output && !around.error_terminal && around.file_size == RLIM_INFINITY &&
         around.address_space == RLIM_INFINITY;
}

// A fork has the calling thread alone: others would be waited for in vain.
bool is_only_thread() {
  const fs::directory_iterator threads("/proc/self/task");
  return std::distance(begin(threads), end(threads)) == 1;
}

[[noreturn]] void become_program(const Words& arguments, const std::vector<char*>& environment) {
  ::close_range(3, ~0U, 0);  // as those that close at execve
  environ = const_cast<char**>(environment.data());
  ::_exit(cli::run_program(arguments));
}

void limit(__rlimit_resource resource, rlim_t value) {
  if (value == RLIM_INFINITY) return;
  const rlimit both = {value, value};
  ::setrlimit(resource, &both);
}

}  // namespace

Words lines_of(const std::string& text) {
  Words lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

Program::Program(const Words& arguments, const Surroundings& around) {
  Words words = {EASEL_BINARY_DIR "/easel"};
  words.insert(words.end(), arguments.begin(), arguments.end());
  Words environment = environment_of(around.environment);
  const std::vector<char*> argv = pointers_to(words), envp = pointers_to(environment);

  const Pipe held = make_pipe(), out = make_pipe();
  const Pipe err = around.error_terminal ? make_terminal() : make_pipe();
  const int input = around.keep_input_open ? held.read : file_with(around.input);
  int output = out.write;
  if (!around.output_file.empty())
    output = ::open(around.output_file.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (around.break_output) {
    const Pipe broken = make_pipe();
    ::close(broken.read);
    output = broken.write;
  }

  const bool is_fork = is_ordinary(around) && is_only_thread();
  std::fflush(nullptr);  // or the fork writes it, too
  process_ = ::fork();
  if (process_ == 0) {  // before execve only calls that are safe after a fork
    ::dup2(input, 0);
    ::dup2(output, 1);
    ::dup2(err.write, 2);
    if (around.close_output) ::close(1);
    if (!around.folder.empty() && ::chdir(around.folder.c_str()) != 0) ::_exit(126);
    limit(RLIMIT_FSIZE, around.file_size);
    limit(RLIMIT_AS, around.address_space);
    if (is_fork) become_program(arguments, envp);
    ::execve(argv[0], argv.data(), envp.data());
    ::_exit(127);
  }
  for (const int fd : {input, output, err.write}) ::close(fd);
  if (output != out.write) ::close(out.write);
  if (input != held.read) ::close(held.read);
  input_ = held.write;
  out_ = out.read;
  err_ = err.read;
}

Program::~Program() {
  if (process_ > 0) {
    ::kill(process_, SIGKILL);
    ::waitpid(process_, nullptr, 0);
  }
  for (const int fd : {input_, out_, err_}) {
    if (fd >= 0) ::close(fd);
  }
}

bool Program::read_some() {
  pollfd both[2] = {{out_, POLLIN, 0}, {err_, POLLIN, 0}};
  if (::poll(both, 2, kPatienceMilliseconds) <= 0) throw std::runtime_error("the program hangs");
  const auto read_end = [](pollfd& end, int& fd, std::string& text) {
    if (end.revents == 0) return;
    char block[4096];
    const ssize_t count = ::read(fd, block, sizeof block);
    if (count > 0) {
      text.append(block, static_cast<std::size_t>(count));
    } else {  // the end, which a terminal reports as an error
      ::close(fd);
      fd = -1;
    }
  };
  read_end(both[0], out_, result_.out);
  read_end(both[1], err_, result_.err);
  return out_ >= 0 || err_ >= 0;
}

void Program::wait_for(const std::string& text) {
  while (result_.out.find(text) == std::string::npos && result_.err.find(text) == std::string::npos) {
    if (!read_some()) throw std::runtime_error("the program ended before '" + text + "' came:\n" + result_.err);
  }
}

void Program::send(int signal) const { ::kill(process_, signal); }

void Program::write(const std::string& text) const {
  if (::write(input_, text.data(), text.size()) != static_cast<ssize_t>(text.size())) throw std::runtime_error("write");
}

void Program::close_input() {
  ::close(input_);
  input_ = -1;
}

Result Program::finish() {
  while (read_some()) {
  }
  int status = 0;
  ::waitpid(process_, &status, 0);
  process_ = -1;
  if (WIFEXITED(status)) result_.code = WEXITSTATUS(status);
  if (WIFSIGNALED(status)) result_.signal = WTERMSIG(status);
  return result_;
}

CliTest::CliTest() : folder_(make_folder()) {}

CliTest::~CliTest() { fs::remove_all(folder_); }

Surroundings CliTest::here(Surroundings around) const {
  if (around.folder.empty()) around.folder = folder_;
  return around;
}

Result CliTest::run(const Words& arguments, Surroundings around) const {
  return Program(arguments, here(std::move(around))).finish();
}

Result CliTest::draw(Words arguments, Surroundings around) const {
  arguments.insert(arguments.end(), kSmall.begin(), kSmall.end());
  return run(arguments, std::move(around));
}

std::vector<std::string> CliTest::files() const {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder_)) names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

std::string CliTest::bytes(const std::string& name) const {
  std::ifstream in(folder_ / name, std::ios::binary);
  EXPECT_TRUE(in) << name << " is not there";
  return {std::istreambuf_iterator<char>(in), {}};
}

void CliTest::make(const std::string& name, const std::string& content) const {
  std::ofstream(folder_ / name, std::ios::binary) << content;
}

void expect_words(const std::string& text, const Words& words) {
  for (const std::string& word : words) EXPECT_NE(text.find(word), std::string::npos) << word << "\nin: " << text;
}

}  // namespace easel::testing
