// Per-token tables of an engine that was measured.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace moesim {

// The column `wall_ms` of a table, [tokens], all above 0: comma-separated, its first line the names
// of the columns, lines that begin with # left out. Throws UserError "FILE:LINE: ..." for a table
// without that column or with anything but a positive number in it.
std::vector<double> read_wall_ms(const std::filesystem::path& path, const std::string& shown);

}  // namespace moesim
