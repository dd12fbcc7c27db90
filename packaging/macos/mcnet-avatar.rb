# For Homebrew. Not run: there was no Mac to build or install on. URL and hash are filled in when a release is made.
cask "mcnet-avatar" do
  version "0.2.0"
  sha256 "RELEASE_SHA256"

  url "RELEASE_URL"
  name "Mcnet Avatar"
  desc "Be a portrait in your next video call"
  homepage "PROJECT_HOMEPAGE"

  depends_on arch: :arm64 # where it was built
  depends_on macos: ">= :ventura" # Qt's

  app "Mcnet Avatar.app"
  binary "#{appdir}/Mcnet Avatar.app/Contents/MacOS/mcnet"

  zap trash: [
    "~/Library/Application Support/mcnet-avatar",
    "~/Library/Caches/mcnet-avatar",
  ]
end
