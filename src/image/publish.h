// Gives a finished temporary its name. Each function returns 0 or an errno, EEXIST if `target` is taken; only on
// success is `temporary` gone.
#pragma once

#include <filesystem>

namespace easel {

// Replaces what is there.
int publish_over(const std::filesystem::path& temporary, const std::filesystem::path& target);

// Never replaces anything: the first of the three below that the file system has.
int publish_new(const std::filesystem::path& temporary, const std::filesystem::path& target);

// link(): atomic everywhere it exists; FAT, object stores and some FUSE file systems have no hard links.
int publish_by_link(const std::filesystem::path& temporary, const std::filesystem::path& target);
// renameat2(RENAME_NOREPLACE): atomic too; EINVAL where the file system does not know the flag.
int publish_by_exclusive_rename(const std::filesystem::path& temporary, const std::filesystem::path& target);
// A look, then rename(): of two writers at the very same moment the later replaces the earlier. Claiming the name with
// O_EXCL would shut that gap but show an empty file under it, which stays if the program is killed.
int publish_by_checked_rename(const std::filesystem::path& temporary, const std::filesystem::path& target);

}  // namespace easel
