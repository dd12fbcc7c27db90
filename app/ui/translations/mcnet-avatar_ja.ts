<?xml version="1.0" encoding="utf-8"?>
<!DOCTYPE TS>
<TS version="2.1" language="ja" sourcelanguage="en">
    <context>
        <name>mcnet-avatar</name>
        <message>
            <source>(none is bundled)</source>
            <translation>（同梱なし）</translation>
        </message>
        <message>
            <source>1 to 6: 64 px halve six times</source>
            <translation>1～6（64 pxは6回まで半分にできます）</translation>
        </message>
        <message>
            <source>A call hears nothing: {trouble}.</source>
            <translation>通話に音声が届きません：{trouble}。</translation>
        </message>
        <message>
            <source>A call hears you {delay_ms:.0f} ms late, with the picture.</source>
            <translation>通話には映像に合わせて {delay_ms:.0f} ms 遅れて聞こえます。</translation>
        </message>
        <message>
            <source>A device that every call program lists. It needs a kernel module, and root once.</source>
            <translation>すべての通話アプリに表示されるデバイスです。カーネルモジュールと、最初に一度 root 権限が必要です。</translation>
        </message>
        <message>
            <source>A folder for recordings</source>
            <translation>録画用のフォルダー</translation>
        </message>
        <message>
            <source>A folder…</source>
            <translation>フォルダー…</translation>
        </message>
        <message>
            <source>A lattice drawn on the portrait, moved as the portrait is</source>
            <translation>ポートレートに描いた格子を、ポートレートと同じように動かしたもの</translation>
        </message>
        <message>
            <source>A model</source>
            <translation>モデル</translation>
        </message>
        <message>
            <source>A model's folder, or that of a run that learns</source>
            <translation>モデルのフォルダー、または学習中の実行のフォルダー</translation>
        </message>
        <message>
            <source>A motion file for the avatar that idles</source>
            <translation>待機中のアバター用のモーションファイル</translation>
        </message>
        <message>
            <source>A motion file in the camera's place</source>
            <translation>カメラの代わりにするモーションファイル</translation>
        </message>
        <message>
            <source>A motion file…</source>
            <translation>モーションファイル…</translation>
        </message>
        <message>
            <source>A phone with a camera app, or any camera with an address on your network</source>
            <translation>カメラアプリを入れたスマートフォン、またはネットワーク上にアドレスのあるカメラ</translation>
        </message>
        <message>
            <source>A picture as background</source>
            <translation>背景にする画像</translation>
        </message>
        <message>
            <source>A picture for the slate</source>
            <translation>待機画面の画像</translation>
        </message>
        <message>
            <source>A picture of yours that the slate shows</source>
            <translation>待機画面に表示する自分の画像</translation>
        </message>
        <message>
            <source>A picture of yours that the slate shows; now: {file}</source>
            <translation>待機画面に表示する自分の画像。現在：{file}</translation>
        </message>
        <message>
            <source>A picture…</source>
            <translation>画像…</translation>
        </message>
        <message>
            <source>A safe start avoids what may have been the cause: the processor computes, there is no virtual camera, and all settings are the defaults. Your own are kept for the next start.</source>
            <translation>セーフスタートでは原因と考えられるものを避けます。計算はプロセッサーで行い、仮想カメラはなく、設定はすべて既定値です。ご自身の設定は次回の起動のために残されます。</translation>
        </message>
        <message>
            <source>A video as background</source>
            <translation>背景にする動画</translation>
        </message>
        <message>
            <source>A video in the camera's place</source>
            <translation>カメラの代わりにする動画</translation>
        </message>
        <message>
            <source>A video…</source>
            <translation>動画…</translation>
        </message>
        <message>
            <source>AKD of copying</source>
            <translation>コピー比 AKD</translation>
        </message>
        <message>
            <source>Absolute</source>
            <translation>絶対</translation>
        </message>
        <message>
            <source>Add a picture from a file</source>
            <translation>ファイルから画像を追加</translation>
        </message>
        <message>
            <source>Add a picture from the clipboard</source>
            <translation>クリップボードから画像を追加</translation>
        </message>
        <message>
            <source>Add a picture of yours (Ctrl+O), or drop one anywhere</source>
            <translation>自分の画像を追加（Ctrl+O）。ウィンドウへのドロップもできます</translation>
        </message>
        <message>
            <source>Add a portrait</source>
            <translation>ポートレートを追加</translation>
        </message>
        <message>
            <source>Add neither this picture nor those that wait</source>
            <translation>この画像も待っている画像も追加しない</translation>
        </message>
        <message>
            <source>Add the picture in the clipboard (Ctrl+V)</source>
            <translation>クリップボードの画像を追加（Ctrl+V）</translation>
        </message>
        <message>
            <source>Add yours…</source>
            <translation>自分の画像…</translation>
        </message>
        <message>
            <source>Add…</source>
            <translation>追加…</translation>
        </message>
        <message>
            <source>Adjust the crop</source>
            <translation>切り抜きを調整</translation>
        </message>
        <message>
            <source>Allow it in System Settings &gt; {place}</source>
            <translation>システム設定 &gt; {place} で許可してください</translation>
        </message>
        <message>
            <source>Always dark</source>
            <translation>常に暗い配色</translation>
        </message>
        <message>
            <source>Always light</source>
            <translation>常に明るい配色</translation>
        </message>
        <message>
            <source>Another colour</source>
            <translation>別の色</translation>
        </message>
        <message>
            <source>Another file…</source>
            <translation>別のファイル…</translation>
        </message>
        <message>
            <source>Another name for {preset}:</source>
            <translation>{preset} の新しい名前：</translation>
        </message>
        <message>
            <source>As the desktop</source>
            <translation>デスクトップに合わせる</translation>
        </message>
        <message>
            <source>As the system</source>
            <translation>システムに合わせる</translation>
        </message>
        <message>
            <source>Attention</source>
            <translation>アテンション</translation>
        </message>
        <message>
            <source>Automatic</source>
            <translation>自動</translation>
        </message>
        <message>
            <source>Automatic crop</source>
            <translation>自動切り抜き</translation>
        </message>
        <message>
            <source>Automatic: {device}</source>
            <translation>自動：{device}</translation>
        </message>
        <message>
            <source>Avatar</source>
            <translation>アバター</translation>
        </message>
        <message>
            <source>Back to the preview (Escape)</source>
            <translation>プレビューに戻る（Esc）</translation>
        </message>
        <message>
            <source>Background</source>
            <translation>背景</translation>
        </message>
        <message>
            <source>Background: {name}</source>
            <translation>背景：{name}</translation>
        </message>
        <message>
            <source>Before and after the memory compensates them, by the same principal components</source>
            <translation>メモリーによる補償の前後。同じ主成分で表示</translation>
        </message>
        <message>
            <source>Begins…</source>
            <translation>開始中…</translation>
        </message>
        <message>
            <source>Blinks, and eyes wide open.</source>
            <translation>まばたきと、目を見開く動き。</translation>
        </message>
        <message>
            <source>Blur</source>
            <translation>ぼかし</translation>
        </message>
        <message>
            <source>Brows</source>
            <translation>眉</translation>
        </message>
        <message>
            <source>Browsers and OBS see it once their PipeWire camera is switched on; the apps of Zoom and Teams do not.</source>
            <translation>ブラウザーと OBS では PipeWire カメラを有効にすると表示されます。Zoom と Teams のアプリには表示されません。</translation>
        </message>
        <message>
            <source>CALIBRATING</source>
            <translation>調整中</translation>
        </message>
        <message>
            <source>Calibrate</source>
            <translation>調整</translation>
        </message>
        <message>
            <source>Calibrate (F)</source>
            <translation>調整（F）</translation>
        </message>
        <message>
            <source>Calibrate hands-free (F)</source>
            <translation>ハンズフリーで調整（F）</translation>
        </message>
        <message>
            <source>Calibrate hands-free: the best frame of a second or two</source>
            <translation>ハンズフリーで調整：1～2 秒のうち最もよいフレーム</translation>
        </message>
        <message>
            <source>Calibrate: this very frame is the reference</source>
            <translation>調整：今のこのフレームを基準にする</translation>
        </message>
        <message>
            <source>Call this picture of yours something else (F2)</source>
            <translation>この自分の画像の名前を変える（F2）</translation>
        </message>
        <message>
            <source>Call this preset something else</source>
            <translation>このプリセットの名前を変える</translation>
        </message>
        <message>
            <source>Calms jitter; a slow movement is shown that much later.</source>
            <translation>震えを抑えます。ゆっくりした動きはそのぶん遅れて表示されます。</translation>
        </message>
        <message>
            <source>Camera</source>
            <translation>カメラ</translation>
        </message>
        <message>
            <source>Camera {number}</source>
            <translation>カメラ {number}</translation>
        </message>
        <message>
            <source>Can be chosen in the window: {words}.</source>
            <translation>ウィンドウで選べます：{words}。</translation>
        </message>
        <message>
            <source>Cancel</source>
            <translation>キャンセル</translation>
        </message>
        <message>
            <source>Cancel all</source>
            <translation>すべてキャンセル</translation>
        </message>
        <message>
            <source>Chain from the camera to the call</source>
            <translation>カメラから通話までの流れ</translation>
        </message>
        <message>
            <source>Change…</source>
            <translation>変更…</translation>
        </message>
        <message>
            <source>Choose another picture or video</source>
            <translation>別の画像か動画を選ぶ</translation>
        </message>
        <message>
            <source>Choose two to four views of the network's inside</source>
            <translation>ネットワーク内部の表示を 2～4 個選ぶ</translation>
        </message>
        <message>
            <source>Choose {camera}</source>
            <translation>{camera} を選んでください</translation>
        </message>
        <message>
            <source>Choose “{name}” in your call program. Nobody listens to it yet.</source>
            <translation>通話アプリで「{name}」を選んでください。まだ誰も聞いていません。</translation>
        </message>
        <message>
            <source>Close</source>
            <translation>閉じる</translation>
        </message>
        <message>
            <source>Close the programs that use it and load the module again</source>
            <translation>使用中のプログラムを閉じて、モジュールを読み込み直してください</translation>
        </message>
        <message>
            <source>Close {by}</source>
            <translation>{by} を閉じてください</translation>
        </message>
        <message>
            <source>Column</source>
            <translation>列</translation>
        </message>
        <message>
            <source>Command</source>
            <translation>コマンド</translation>
        </message>
        <message>
            <source>Computer</source>
            <translation>コンピューター</translation>
        </message>
        <message>
            <source>Content Credentials</source>
            <translation>コンテンツクレデンシャル</translation>
        </message>
        <message>
            <source>Control from outside</source>
            <translation>外部からの操作</translation>
        </message>
        <message>
            <source>Controls</source>
            <translation>操作</translation>
        </message>
        <message>
            <source>Copy</source>
            <translation>コピー</translation>
        </message>
        <message>
            <source>Copy the token</source>
            <translation>トークンをコピー</translation>
        </message>
        <message>
            <source>Copy this command</source>
            <translation>このコマンドをコピー</translation>
        </message>
        <message>
            <source>Crop by the face that was found</source>
            <translation>検出した顔に合わせて切り抜く</translation>
        </message>
        <message>
            <source>Crop of the portrait</source>
            <translation>ポートレートの切り抜き</translation>
        </message>
        <message>
            <source>Crop of {name}</source>
            <translation>{name} の切り抜き</translation>
        </message>
        <message>
            <source>Crop of {name} ({number} of {of})</source>
            <translation>{name} の切り抜き（{of} 件中 {number} 件目）</translation>
        </message>
        <message>
            <source>Ctrl</source>
            <translation>Ctrl</translation>
        </message>
        <message>
            <source>Cut the person out</source>
            <translation>人物を切り抜く</translation>
        </message>
        <message>
            <source>DROP</source>
            <translation>ドロップ</translation>
        </message>
        <message>
            <source>Dark</source>
            <translation>ダーク</translation>
        </message>
        <message>
            <source>Delete</source>
            <translation>削除</translation>
        </message>
        <message>
            <source>Delete preset</source>
            <translation>プリセットを削除</translation>
        </message>
        <message>
            <source>Delete this preset; the portraits keep their strengths</source>
            <translation>このプリセットを削除します。ポートレートの強さはそのままです</translation>
        </message>
        <message>
            <source>Device</source>
            <translation>デバイス</translation>
        </message>
        <message>
            <source>Dismiss</source>
            <translation>閉じる</translation>
        </message>
        <message>
            <source>Do what the message proposes</source>
            <translation>メッセージの提案を実行する</translation>
        </message>
        <message>
            <source>Drag the square, or its corners. Keys: arrows move, plus and minus resize, Page Up and Down turn, comma and full stop straighten.</source>
            <translation>四角形、またはその角をドラッグします。キー：矢印で移動、プラスとマイナスで大きさ、Page Up と Page Down で回転、コンマとピリオドで傾き補正。</translation>
        </message>
        <message>
            <source>Draw on your picture what was found in it (O).</source>
            <translation>画像の中に見つけたものを、ご自身の映像に描きます（O）。</translation>
        </message>
        <message>
            <source>Draw skin, teeth, lids</source>
            <translation>肌・歯・閉じたまぶたを描く</translation>
        </message>
        <message>
            <source>Draws what the network cannot show of this portrait: its skin where it moves, the inside of a mouth that its picture keeps shut, and lids that close. For motion in space; nothing of your own picture goes into it.</source>
            <translation>このポートレートでネットワークが表現できないもの、つまり動く部分の肌、画像では閉じている口の中、閉じるまぶたを描きます。空間モードの動きで働き、あなた自身の映像は一切使われません。</translation>
        </message>
        <message>
            <source>Drop a picture to add a portrait, or a video or motion file to stand in for the camera.</source>
            <translation>画像をドロップするとポートレートが追加され、動画やモーションファイルをドロップするとカメラの代わりになります。</translation>
        </message>
        <message>
            <source>Each part of motion and expression for itself, in space only.</source>
            <translation>動きと表情を部分ごとに調整します（空間モードのみ）。</translation>
        </message>
        <message>
            <source>Enable RPM Fusion's free repository (rpmfusion.org tells how), then install it</source>
            <translation>RPM Fusion の free リポジトリーを有効にして（方法は rpmfusion.org）、インストールしてください</translation>
        </message>
        <message>
            <source>Enter keeps the name, Escape the one before.</source>
            <translation>Enter で名前を確定、Esc で元に戻します。</translation>
        </message>
        <message>
            <source>Everything is ready.</source>
            <translation>すべて準備できました。</translation>
        </message>
        <message>
            <source>Expression</source>
            <translation>表情</translation>
        </message>
        <message>
            <source>FAULT</source>
            <translation>障害</translation>
        </message>
        <message>
            <source>Features</source>
            <translation>特徴</translation>
        </message>
        <message>
            <source>Figures</source>
            <translation>数値</translation>
        </message>
        <message>
            <source>Figures: not measured</source>
            <translation>数値：未測定</translation>
        </message>
        <message>
            <source>Figures: {figures}</source>
            <translation>数値：{figures}</translation>
        </message>
        <message numerus="yes">
            <source>Figures: {figures} ({n} clips that it never saw)</source>
            <translation>
                <numerusform>数値：{figures}（未学習の {n} クリップ）</numerusform>
            </translation>
        </message>
        <message>
            <source>Find the fastest way to run the model on this computer (a few seconds), and remember it</source>
            <translation>このコンピューターでモデルを最も速く動かす方法を調べて（数秒）、記憶します</translation>
        </message>
        <message>
            <source>Fine detail</source>
            <translation>細部の表示</translation>
        </message>
        <message>
            <source>Fine-tune</source>
            <translation>微調整</translation>
        </message>
        <message>
            <source>First steps</source>
            <translation>はじめに</translation>
        </message>
        <message>
            <source>Flip what the call sees (T).</source>
            <translation>通話に見える映像を左右反転します（T）。</translation>
        </message>
        <message>
            <source>Folder of recordings</source>
            <translation>録画のフォルダー</translation>
        </message>
        <message>
            <source>Framing</source>
            <translation>フレーミング</translation>
        </message>
        <message>
            <source>Gaze</source>
            <translation>視線</translation>
        </message>
        <message>
            <source>Generated</source>
            <translation>生成</translation>
        </message>
        <message>
            <source>Give the output to call programs as a camera. It starts with the slate; then go live.</source>
            <translation>出力をカメラとして通話アプリに渡します。待機画面から始まるので、その後ライブを開始してください。</translation>
        </message>
        <message>
            <source>Go live</source>
            <translation>ライブ開始</translation>
        </message>
        <message>
            <source>Go live, or stop</source>
            <translation>ライブの開始と停止</translation>
        </message>
        <message>
            <source>HOLD</source>
            <translation>保持</translation>
        </message>
        <message>
            <source>Hands-free</source>
            <translation>ハンズフリー</translation>
        </message>
        <message>
            <source>Have it at every start of the system</source>
            <translation>システムの起動時に毎回使えるようにしてください</translation>
        </message>
        <message>
            <source>Heard: {name}</source>
            <translation>音声：{name}</translation>
        </message>
        <message>
            <source>Hide</source>
            <translation>隠す</translation>
        </message>
        <message>
            <source>How far the background is out of focus.</source>
            <translation>背景をどれだけぼかすか。</translation>
        </message>
        <message>
            <source>How far the enlarged portrait is sharpened.</source>
            <translation>拡大したポートレートをどれだけ鮮明にするか。</translation>
        </message>
        <message>
            <source>How far the head moves.</source>
            <translation>頭をどれだけ動かすか。</translation>
        </message>
        <message>
            <source>How large the portrait stands in the picture (the mouse wheel over the preview).</source>
            <translation>画像の中のポートレートの大きさ（プレビュー上のマウスホイールでも変更できます）。</translation>
        </message>
        <message>
            <source>How long a process of its own was busy with computing one frame once more</source>
            <translation>別プロセスが 1 フレームを再計算するのにかかった時間</translation>
        </message>
        <message>
            <source>How much of the crop your face fills (W and S).</source>
            <translation>切り抜きの中で顔が占める割合（W と S）。</translation>
        </message>
        <message>
            <source>How often calls and recordings get a picture.</source>
            <translation>通話と録画に画像を渡す頻度。</translation>
        </message>
        <message>
            <source>How strongly mouth, eyes and brows move.</source>
            <translation>口・目・眉をどれだけ強く動かすか。</translation>
        </message>
        <message>
            <source>I may use this picture</source>
            <translation>この画像を使う権利があります</translation>
        </message>
        <message>
            <source>IDLE</source>
            <translation>待機</translation>
        </message>
        <message>
            <source>If there is none, the device keeps an old format: free it</source>
            <translation>使用中のものがなければ、デバイスが古い形式を保持しています。解放してください</translation>
        </message>
        <message>
            <source>In a call</source>
            <translation>通話中</translation>
        </message>
        <message>
            <source>In space</source>
            <translation>空間</translation>
        </message>
        <message>
            <source>In the plane</source>
            <translation>平面</translation>
        </message>
        <message>
            <source>In this window 0 shows the slate; a key chosen here does so from every other one, too.</source>
            <translation>このウィンドウでは 0 で待機画面になります。ここで選んだキーは、ほかのどのウィンドウからも使えます。</translation>
        </message>
        <message>
            <source>Inside the network</source>
            <translation>ネットワークの内部</translation>
        </message>
        <message>
            <source>Install OBS Studio 30 or newer from {address}</source>
            <translation>{address} から OBS Studio 30 以降をインストールしてください</translation>
        </message>
        <message>
            <source>Install OBS Studio from {address} (it need not run), then restart your call program</source>
            <translation>{address} から OBS Studio をインストールして（起動しておく必要はありません）、通話アプリを再起動してください</translation>
        </message>
        <message>
            <source>Install it</source>
            <translation>インストールしてください</translation>
        </message>
        <message>
            <source>Install it (for another kernel than linux, its own headers: linux-lts-headers, say)</source>
            <translation>インストールしてください（linux 以外のカーネルでは、linux-lts-headers など専用のヘッダーも）</translation>
        </message>
        <message>
            <source>Install your distribution's package v4l2loopback (or v4l2loopback-dkms)</source>
            <translation>お使いのディストリビューションのパッケージ v4l2loopback（または v4l2loopback-dkms）をインストールしてください</translation>
        </message>
        <message>
            <source>Install your distribution's packages pipewire and wireplumber</source>
            <translation>お使いのディストリビューションのパッケージ pipewire と wireplumber をインストールしてください</translation>
        </message>
        <message>
            <source>It has no card with figures: nobody has told how good it is (mcnet-train evaluate measures it).</source>
            <translation>数値の入ったカードがありません。品質は不明です（mcnet-train evaluate で測定できます）。</translation>
        </message>
        <message>
            <source>It is a pickled checkpoint without a card: it is read without running code, but nobody tells how good it is or under which licence it may be used.</source>
            <translation>カードのない pickle 形式のチェックポイントです。コードを実行せずに読み込みますが、品質も利用許諾も不明です。</translation>
        </message>
        <message>
            <source>It is being switched on…</source>
            <translation>有効にしています…</translation>
        </message>
        <message>
            <source>It is off: {why}.</source>
            <translation>オフです：{why}。</translation>
        </message>
        <message>
            <source>It is worse than showing the portrait as it is: its pictures are off by {copied:.0%} of what that would be.</source>
            <translation>ポートレートをそのまま見せるより劣ります。画像のずれはその {copied:.0%} です。</translation>
        </message>
        <message>
            <source>It shows me, or the person in it agrees, or nobody real is in it.</source>
            <translation>自分が写っている、写っている人の同意がある、または実在の人物ではない。</translation>
        </message>
        <message>
            <source>Its card is being read…</source>
            <translation>カードを読み込み中…</translation>
        </message>
        <message>
            <source>Join the group of video devices, then log out and in again</source>
            <translation>ビデオデバイスのグループに加わり、ログアウトしてからログインし直してください</translation>
        </message>
        <message>
            <source>Keep these strengths under a name</source>
            <translation>この強さに名前を付けて保存</translation>
        </message>
        <message>
            <source>Keep this crop and animate it</source>
            <translation>この切り抜きを採用して動かす</translation>
        </message>
        <message>
            <source>Key for the slate, from every window</source>
            <translation>どのウィンドウからも使える待機画面のキー</translation>
        </message>
        <message>
            <source>Keys</source>
            <translation>キー</translation>
        </message>
        <message>
            <source>Kind of virtual camera</source>
            <translation>仮想カメラの種類</translation>
        </message>
        <message>
            <source>L1 of copying</source>
            <translation>コピー比 L1</translation>
        </message>
        <message>
            <source>L1 of copying, of what it learns from</source>
            <translation>コピー比 L1（学習データ）</translation>
        </message>
        <message>
            <source>LIVE</source>
            <translation>ライブ</translation>
        </message>
        <message>
            <source>Landmarks and keypoints</source>
            <translation>ランドマークとキーポイント</translation>
        </message>
        <message>
            <source>Language</source>
            <translation>言語</translation>
        </message>
        <message>
            <source>Lattice</source>
            <translation>格子</translation>
        </message>
        <message>
            <source>Leave everything as it was (Escape)</source>
            <translation>すべて元のままにする（Esc）</translation>
        </message>
        <message>
            <source>Leave the slate up; the call keeps its picture (G)</source>
            <translation>待機画面を残します。通話の映像は途切れません（G）</translation>
        </message>
        <message>
            <source>Let a Stream Deck, OBS or scripts reach slate, portraits and recordings; on this computer alone.</source>
            <translation>Stream Deck、OBS、スクリプトから待機画面・ポートレート・録画を操作できます。このコンピューター内に限ります。</translation>
        </message>
        <message>
            <source>Let call programs see the output; it starts with the slate</source>
            <translation>出力を通話アプリから見えるようにします。待機画面から始まります</translation>
        </message>
        <message>
            <source>Level</source>
            <translation>レベル</translation>
        </message>
        <message>
            <source>Level of the microphone</source>
            <translation>マイクのレベル</translation>
        </message>
        <message>
            <source>Licence: {licence}</source>
            <translation>ライセンス：{licence}</translation>
        </message>
        <message>
            <source>Lids</source>
            <translation>まぶた</translation>
        </message>
        <message>
            <source>Lift slate</source>
            <translation>待機を解除</translation>
        </message>
        <message>
            <source>Light</source>
            <translation>ライト</translation>
        </message>
        <message>
            <source>Lips, jaw and chin.</source>
            <translation>唇・あご・あご先。</translation>
        </message>
        <message>
            <source>List all keys (?)</source>
            <translation>すべてのキーを表示（?）</translation>
        </message>
        <message>
            <source>Load the module</source>
            <translation>モジュールを読み込んでください</translation>
        </message>
        <message>
            <source>Look again for a virtual camera</source>
            <translation>仮想カメラを探し直す</translation>
        </message>
        <message>
            <source>Look again for cameras</source>
            <translation>カメラを探し直す</translation>
        </message>
        <message>
            <source>Look again for microphones</source>
            <translation>マイクを探し直す</translation>
        </message>
        <message>
            <source>Look as the portrait does: the head turned alike, mouth and eyes as far open.</source>
            <translation>ポートレートと同じように：頭の向き、口と目の開き方を合わせてください。</translation>
        </message>
        <message>
            <source>Look as you do at rest: mouth closed, eyes open; any direction will do.</source>
            <translation>普段の顔で：口を閉じ、目を開けてください。向きは自由です。</translation>
        </message>
        <message>
            <source>Looking for cameras…</source>
            <translation>カメラを探しています…</translation>
        </message>
        <message>
            <source>Looking for one…</source>
            <translation>探しています…</translation>
        </message>
        <message>
            <source>MEASURING</source>
            <translation>測定中</translation>
        </message>
        <message>
            <source>Make another token; the old one is of no use then</source>
            <translation>新しいトークンを作ります。以前のものは使えなくなります</translation>
        </message>
        <message>
            <source>Masks</source>
            <translation>マスク</translation>
        </message>
        <message>
            <source>Measure</source>
            <translation>測定</translation>
        </message>
        <message>
            <source>Measured: {words}.</source>
            <translation>測定しました：{words}。</translation>
        </message>
        <message>
            <source>Microphone</source>
            <translation>マイク</translation>
        </message>
        <message>
            <source>Microphone for calls, in step</source>
            <translation>映像に合わせた通話用マイク</translation>
        </message>
        <message>
            <source>Mirror the output</source>
            <translation>出力を左右反転</translation>
        </message>
        <message>
            <source>Mirror the preview</source>
            <translation>プレビューを鏡にする</translation>
        </message>
        <message>
            <source>Mirror what the call sees</source>
            <translation>通話に見える映像を左右反転</translation>
        </message>
        <message>
            <source>Missing: {link}</source>
            <translation>不足：{link}</translation>
        </message>
        <message>
            <source>Model</source>
            <translation>モデル</translation>
        </message>
        <message>
            <source>Models (*.safetensors *.pth *.tar);;All files (*)</source>
            <translation>モデル (*.safetensors *.pth *.tar);;すべてのファイル (*)</translation>
        </message>
        <message>
            <source>Motion</source>
            <translation>動き</translation>
        </message>
        <message>
            <source>Motion files (*.safetensors);;All files (*)</source>
            <translation>モーションファイル (*.safetensors);;すべてのファイル (*)</translation>
        </message>
        <message>
            <source>Motion file…</source>
            <translation>モーションファイル…</translation>
        </message>
        <message>
            <source>Mouth</source>
            <translation>口</translation>
        </message>
        <message>
            <source>Move the crop down (J)</source>
            <translation>切り抜きを下へ動かす（J）</translation>
        </message>
        <message>
            <source>Move the crop to the left (H)</source>
            <translation>切り抜きを左へ動かす（H）</translation>
        </message>
        <message>
            <source>Move the crop to the right (K)</source>
            <translation>切り抜きを右へ動かす（K）</translation>
        </message>
        <message>
            <source>Move the crop up (U)</source>
            <translation>切り抜きを上へ動かす（U）</translation>
        </message>
        <message>
            <source>Moves gently</source>
            <translation>ゆっくり動く</translation>
        </message>
        <message>
            <source>NO CAMERA</source>
            <translation>カメラなし</translation>
        </message>
        <message>
            <source>NO FACE</source>
            <translation>顔なし</translation>
        </message>
        <message>
            <source>Name of the portrait</source>
            <translation>ポートレートの名前</translation>
        </message>
        <message>
            <source>Name of these strengths:</source>
            <translation>この強さの名前：</translation>
        </message>
        <message>
            <source>Nearness</source>
            <translation>近さ</translation>
        </message>
        <message>
            <source>Network camera</source>
            <translation>ネットワークカメラ</translation>
        </message>
        <message>
            <source>Network camera…</source>
            <translation>ネットワークカメラ…</translation>
        </message>
        <message>
            <source>New recordings have your voice, in step with the picture. Switched off, the microphone is closed.</source>
            <translation>新しい録画に、映像に合わせてあなたの声を入れます。オフのときマイクは閉じています。</translation>
        </message>
        <message>
            <source>New token</source>
            <translation>新しいトークン</translation>
        </message>
        <message>
            <source>Next portrait</source>
            <translation>次のポートレート</translation>
        </message>
        <message>
            <source>Next step</source>
            <translation>次の手順</translation>
        </message>
        <message>
            <source>No camera</source>
            <translation>カメラなし</translation>
        </message>
        <message>
            <source>No camera was found. Plug one in and refresh, or let a video file stand in for it.</source>
            <translation>カメラが見つかりません。接続して更新するか、動画ファイルを代わりに使ってください。</translation>
        </message>
        <message>
            <source>No card: nobody tells what it learned from, or how good it is</source>
            <translation>カードなし：学習元も品質も不明です</translation>
        </message>
        <message>
            <source>No kernel module and no root, also with Secure Boot. Firefox, Chromium and OBS can list it.</source>
            <translation>カーネルモジュールも root 権限も不要で、セキュアブートでも使えます。Firefox、Chromium、OBS に表示されます。</translation>
        </message>
        <message>
            <source>No picture goes out any more.</source>
            <translation>画像はもう出力されません。</translation>
        </message>
        <message>
            <source>Nod</source>
            <translation>うなずき</translation>
        </message>
        <message>
            <source>None: transparent</source>
            <translation>なし：透明</translation>
        </message>
        <message>
            <source>Not all of the list of portraits could be read: {said}. A portrait may have lost its name or its crop; {kept}.</source>
            <translation>ポートレートの一覧の一部を読み込めませんでした：{said}。名前や切り抜きが失われたポートレートがあるかもしれません。{kept}。</translation>
        </message>
        <message>
            <source>Not all presets could be used: {said}. All others are there; {kept}.</source>
            <translation>一部のプリセットを使えませんでした：{said}。ほかはそのままです。{kept}。</translation>
        </message>
        <message>
            <source>Not all settings could be used: {said}. All others are in force; {kept}.</source>
            <translation>一部の設定を使えませんでした：{said}。ほかの設定は有効です。{kept}。</translation>
        </message>
        <message>
            <source>Not in space: {reason}.</source>
            <translation>空間モードは使えません：{reason}。</translation>
        </message>
        <message>
            <source>Not possible here while another window has the focus: {words}.</source>
            <translation>ほかのウィンドウにフォーカスがある間は使えません：{words}。</translation>
        </message>
        <message>
            <source>Not yet: {missing}</source>
            <translation>まだです：{missing}</translation>
        </message>
        <message>
            <source>Nothing is heard: {trouble}.</source>
            <translation>音声が聞こえません：{trouble}。</translation>
        </message>
        <message>
            <source>Nothing says under which licence it may be used.</source>
            <translation>利用許諾がどこにも示されていません。</translation>
        </message>
        <message>
            <source>Nothing to improve.</source>
            <translation>改善点はありません。</translation>
        </message>
        <message>
            <source>Nudge</source>
            <translation>移動</translation>
        </message>
        <message>
            <source>Nudge it down</source>
            <translation>下へ動かす</translation>
        </message>
        <message>
            <source>Nudge it left</source>
            <translation>左へ動かす</translation>
        </message>
        <message>
            <source>Nudge it right</source>
            <translation>右へ動かす</translation>
        </message>
        <message>
            <source>Nudge the crop up</source>
            <translation>切り抜きを上へ動かす</translation>
        </message>
        <message>
            <source>Occlusion</source>
            <translation>遮蔽</translation>
        </message>
        <message>
            <source>Of the picture that calls and recordings get, in pixels.</source>
            <translation>通話と録画に渡す画像の大きさ（ピクセル）。</translation>
        </message>
        <message>
            <source>Of the window's texts. A change takes effect at the app's next start.</source>
            <translation>ウィンドウの表示言語。変更は次回の起動から有効になります。</translation>
        </message>
        <message>
            <source>Offer call programs the microphone as late as the picture is, so that lips and voice agree. It is heard only while a program listens, and silent while you show the slate.</source>
            <translation>映像と同じだけ遅らせたマイクを通話アプリに提供し、口と声を合わせます。アプリが聞いている間だけ音を取り、待機画面の間は無音になります。</translation>
        </message>
        <message>
            <source>On: {device}. Choose it in your call program.</source>
            <translation>オン：{device}。通話アプリで選んでください。</translation>
        </message>
        <message>
            <source>One colour</source>
            <translation>単色</translation>
        </message>
        <message>
            <source>One moment: it is being read…</source>
            <translation>お待ちください：読み込み中…</translation>
        </message>
        <message>
            <source>Open</source>
            <translation>開く</translation>
        </message>
        <message>
            <source>Open OBS, press Start Virtual Camera once, allow the extension, press Stop, and restart this app</source>
            <translation>OBS を開き、「仮想カメラ開始」を一度押して拡張機能を許可し、停止してから、このアプリを再起動してください</translation>
        </message>
        <message>
            <source>Open folder</source>
            <translation>フォルダーを開く</translation>
        </message>
        <message>
            <source>Open what is written about this model</source>
            <translation>このモデルの説明を開く</translation>
        </message>
        <message>
            <source>OpenCV does not load: {error}; on Debian or Ubuntu: apt-get install libgl1 libglib2.0-0 libxcb1</source>
            <translation>OpenCV を読み込めません：{error}。Debian・Ubuntu では：apt-get install libgl1 libglib2.0-0 libxcb1</translation>
        </message>
        <message>
            <source>OpenVINO alone knows it, and backend {backend} was chosen; use backend auto, or bf16 or fp32</source>
            <translation>対応するのは OpenVINO だけですが、バックエンド {backend} が選ばれています。バックエンド auto、または bf16 か fp32 を使ってください</translation>
        </message>
        <message>
            <source>OpenVINO computes on CPUs and Intel GPUs only, and {device} was chosen</source>
            <translation>OpenVINO は CPU と Intel の GPU でのみ計算しますが、{device} が選ばれています</translation>
        </message>
        <message>
            <source>OpenVINO finds no Intel GPU: there is none, or its driver for computing (OpenCL) is missing</source>
            <translation>OpenVINO が Intel の GPU を見つけられません：GPU がないか、計算用のドライバー（OpenCL）がありません</translation>
        </message>
        <message>
            <source>OpenVINO knows no GPU on macOS (device mps is Apple's)</source>
            <translation>OpenVINO は macOS の GPU に対応していません（Apple の GPU はデバイス mps です）</translation>
        </message>
        <message>
            <source>OpenVINO was measured on x86-64 CPUs only, and this is {machine}</source>
            <translation>OpenVINO は x86-64 の CPU でのみ測定済みですが、これは {machine} です</translation>
        </message>
        <message>
            <source>Opening…</source>
            <translation>開いています…</translation>
        </message>
        <message>
            <source>Other programs</source>
            <translation>ほかのプログラム</translation>
        </message>
        <message>
            <source>Output and computer</source>
            <translation>出力とコンピューター</translation>
        </message>
        <message>
            <source>Output preview</source>
            <translation>出力プレビュー</translation>
        </message>
        <message>
            <source>Output rate</source>
            <translation>出力レート</translation>
        </message>
        <message>
            <source>Output size</source>
            <translation>出力サイズ</translation>
        </message>
        <message>
            <source>Overlay</source>
            <translation>重ね合わせ</translation>
        </message>
        <message>
            <source>PREVIEW</source>
            <translation>プレビュー</translation>
        </message>
        <message>
            <source>Panic key</source>
            <translation>緊急キー</translation>
        </message>
        <message>
            <source>Parts of expression</source>
            <translation>表情の部分</translation>
        </message>
        <message>
            <source>Parts of motion</source>
            <translation>動きの部分</translation>
        </message>
        <message>
            <source>Paste a picture</source>
            <translation>画像を貼り付け</translation>
        </message>
        <message>
            <source>Pause the preview</source>
            <translation>プレビューを一時停止</translation>
        </message>
        <message>
            <source>Pick one on the left, or add a picture of yours</source>
            <translation>左から選ぶか、自分の画像を追加してください</translation>
        </message>
        <message>
            <source>Picture</source>
            <translation>画像</translation>
        </message>
        <message>
            <source>Pictures ({endings});;All files (*)</source>
            <translation>画像 ({endings});;すべてのファイル (*)</translation>
        </message>
        <message>
            <source>PipeWire camera {detail}: got a picture of {shape}, expected {expected}</source>
            <translation>PipeWire カメラ {detail}：画像が {shape} です。{expected} が必要です</translation>
        </message>
        <message>
            <source>PipeWire did not answer within {seconds:g} s</source>
            <translation>PipeWire が {seconds:g} 秒以内に応答しませんでした</translation>
        </message>
        <message>
            <source>PipeWire did not answer within {seconds} s</source>
            <translation>PipeWire が {seconds} 秒以内に応答しませんでした</translation>
        </message>
        <message>
            <source>PipeWire does not run: {error}</source>
            <translation>PipeWire が動作していません：{error}</translation>
        </message>
        <message>
            <source>PipeWire has ended</source>
            <translation>PipeWire が終了しました</translation>
        </message>
        <message>
            <source>PipeWire has failed: {said}</source>
            <translation>PipeWire が失敗しました：{said}</translation>
        </message>
        <message>
            <source>PipeWire has refused the camera: {error}</source>
            <translation>PipeWire がカメラを拒否しました：{error}</translation>
        </message>
        <message>
            <source>PipeWire has refused the microphone: {error}</source>
            <translation>PipeWire がマイクを拒否しました：{error}</translation>
        </message>
        <message>
            <source>PipeWire has refused to hear the microphone: {error}</source>
            <translation>PipeWire がマイクの聴取を拒否しました：{error}</translation>
        </message>
        <message>
            <source>PipeWire is installed, but does not run: nothing listens at {socket}.</source>
            <translation>PipeWire はインストール済みですが、動作していません：{socket} が応答しません。</translation>
        </message>
        <message>
            <source>PipeWire is not installed.</source>
            <translation>PipeWire がインストールされていません。</translation>
        </message>
        <message>
            <source>PipeWire makes no node (error {number})</source>
            <translation>PipeWire がノードを作れません（エラー {number}）</translation>
        </message>
        <message>
            <source>PipeWire runs, but cannot be used: {error}.</source>
            <translation>PipeWire は動作していますが、使えません：{error}。</translation>
        </message>
        <message>
            <source>PipeWire runs, but you may not use it ({socket}).</source>
            <translation>PipeWire は動作していますが、使用する権限がありません（{socket}）。</translation>
        </message>
        <message>
            <source>PipeWire {version} runs, but without a session manager: no program would reach the camera.</source>
            <translation>PipeWire {version} は動作していますが、セッションマネージャーがないため、どのプログラムからもカメラに届きません。</translation>
        </message>
        <message>
            <source>PipeWire {version} with {manager} can have the camera {name}, without a kernel module.</source>
            <translation>PipeWire {version} と {manager} により、カーネルモジュールなしでカメラ {name} を使えます。</translation>
        </message>
        <message>
            <source>PipeWire's daemon cannot be reached; start it: systemctl --user start pipewire</source>
            <translation>PipeWire のサービスに接続できません。起動してください：systemctl --user start pipewire</translation>
        </message>
        <message>
            <source>PipeWire's library cannot be loaded ({error}); install PipeWire</source>
            <translation>PipeWire のライブラリーを読み込めません（{error}）。PipeWire をインストールしてください</translation>
        </message>
        <message>
            <source>PipeWire's library cannot be used: its settings or plug-ins are missing; install PipeWire</source>
            <translation>PipeWire のライブラリーを使えません：設定かプラグインがありません。PipeWire をインストールしてください</translation>
        </message>
        <message>
            <source>PipeWire's library cannot be used: its thread does not start</source>
            <translation>PipeWire のライブラリーを使えません：スレッドが起動しません</translation>
        </message>
        <message>
            <source>PipeWire's library is too old: it lacks {name}; update PipeWire</source>
            <translation>PipeWire のライブラリーが古すぎます：{name} がありません。PipeWire を更新してください</translation>
        </message>
        <message>
            <source>Play motion that was recorded before, in a loop, instead of a camera</source>
            <translation>以前に記録した動きを、カメラの代わりに繰り返し再生する</translation>
        </message>
        <message>
            <source>Port</source>
            <translation>ポート</translation>
        </message>
        <message>
            <source>Port of control from outside</source>
            <translation>外部からの操作のポート</translation>
        </message>
        <message>
            <source>Portrait</source>
            <translation>ポートレート</translation>
        </message>
        <message>
            <source>Portrait over your picture: fainter</source>
            <translation>自分の映像に重ねるポートレート：薄く</translation>
        </message>
        <message>
            <source>Portrait over your picture: stronger</source>
            <translation>自分の映像に重ねるポートレート：濃く</translation>
        </message>
        <message>
            <source>Portrait size</source>
            <translation>ポートレートの大きさ</translation>
        </message>
        <message>
            <source>Portraits</source>
            <translation>ポートレート</translation>
        </message>
        <message>
            <source>Pose</source>
            <translation>姿勢</translation>
        </message>
        <message>
            <source>Preset</source>
            <translation>プリセット</translation>
        </message>
        <message>
            <source>Previous portrait</source>
            <translation>前のポートレート</translation>
        </message>
        <message>
            <source>Processor</source>
            <translation>プロセッサー</translation>
        </message>
        <message>
            <source>Programs that show the token can control this window on port {port}.</source>
            <translation>トークンを示すプログラムは、ポート {port} でこのウィンドウを操作できます。</translation>
        </message>
        <message>
            <source>Put recordings and snapshots elsewhere</source>
            <translation>録画と静止画を別の場所に保存する</translation>
        </message>
        <message>
            <source>Put the crop back where the face is</source>
            <translation>切り抜きを顔の位置に戻す</translation>
        </message>
        <message>
            <source>Put the first steps away; they come back under Window</source>
            <translation>「はじめに」を隠します。「ウィンドウ」から再び表示できます</translation>
        </message>
        <message>
            <source>Put the portrait back in the middle, in its usual size (a double click on the preview)</source>
            <translation>ポートレートを中央・標準の大きさに戻す（プレビューのダブルクリックでも）</translation>
        </message>
        <message>
            <source>Put this message away</source>
            <translation>このメッセージを閉じる</translation>
        </message>
        <message>
            <source>Qt's part for sound cannot be loaded ({error}); {remedy}</source>
            <translation>Qt の音声機能を読み込めません（{error}）。{remedy}</translation>
        </message>
        <message>
            <source>Quit</source>
            <translation>終了</translation>
        </message>
        <message>
            <source>Rate</source>
            <translation>レート</translation>
        </message>
        <message>
            <source>Read its card</source>
            <translation>カードを読む</translation>
        </message>
        <message>
            <source>Recheck</source>
            <translation>再確認</translation>
        </message>
        <message>
            <source>Record</source>
            <translation>録画</translation>
        </message>
        <message>
            <source>Record my microphone</source>
            <translation>自分のマイクを録音</translation>
        </message>
        <message>
            <source>Record my motion</source>
            <translation>自分の動きを記録</translation>
        </message>
        <message>
            <source>Record the output (V)</source>
            <translation>出力を録画（V）</translation>
        </message>
        <message>
            <source>Record your motion, without pictures, to play it on any portrait later</source>
            <translation>動きだけを映像なしで記録し、あとで好きなポートレートで再生できます</translation>
        </message>
        <message>
            <source>Record, or capture the window with your call program</source>
            <translation>録画するか、通話アプリでこのウィンドウを共有してください</translation>
        </message>
        <message>
            <source>Recordings</source>
            <translation>録画</translation>
        </message>
        <message>
            <source>Recordings (WebM) and snapshots are transparent; the call sees this colour:</source>
            <translation>録画（WebM）と静止画は透明です。通話に見える色：</translation>
        </message>
        <message>
            <source>Recordings and snapshots say, in a signed and standard way (C2PA), that AI generated them, and with which model; nothing of you. Others can read it, and can remove it.</source>
            <translation>録画と静止画に、AI が生成したことと使ったモデルを、署名付きの標準形式（C2PA）で示します。あなたについての情報は含みません。ほかの人が読むことも、取り除くこともできます。</translation>
        </message>
        <message>
            <source>Refresh</source>
            <translation>更新</translation>
        </message>
        <message>
            <source>Refresh cameras</source>
            <translation>カメラを更新</translation>
        </message>
        <message>
            <source>Refresh microphones</source>
            <translation>マイクを更新</translation>
        </message>
        <message>
            <source>Remember the calibration</source>
            <translation>調整を記憶</translation>
        </message>
        <message>
            <source>Remove</source>
            <translation>削除</translation>
        </message>
        <message>
            <source>Remove it</source>
            <translation>削除する</translation>
        </message>
        <message>
            <source>Rename</source>
            <translation>名前を変更</translation>
        </message>
        <message>
            <source>Rename a portrait of yours</source>
            <translation>自分のポートレートの名前を変更</translation>
        </message>
        <message>
            <source>Rename a preset</source>
            <translation>プリセットの名前を変更</translation>
        </message>
        <message>
            <source>Rename…</source>
            <translation>名前を変更…</translation>
        </message>
        <message>
            <source>Reset the place</source>
            <translation>位置を元に戻す</translation>
        </message>
        <message>
            <source>Rests still</source>
            <translation>静止する</translation>
        </message>
        <message>
            <source>SLATE</source>
            <translation>待機画面</translation>
        </message>
        <message>
            <source>STANDBY</source>
            <translation>スタンバイ</translation>
        </message>
        <message>
            <source>STARTING</source>
            <translation>起動中</translation>
        </message>
        <message>
            <source>Save</source>
            <translation>保存</translation>
        </message>
        <message>
            <source>Save a picture of the output</source>
            <translation>出力の静止画を保存</translation>
        </message>
        <message>
            <source>Save a picture of the output (P)</source>
            <translation>出力の静止画を保存（P）</translation>
        </message>
        <message>
            <source>Save a preset</source>
            <translation>プリセットを保存</translation>
        </message>
        <message>
            <source>Save as…</source>
            <translation>名前を付けて保存…</translation>
        </message>
        <message>
            <source>Saved: {path}</source>
            <translation>保存しました：{path}</translation>
        </message>
        <message>
            <source>Says in the picture that it is synthetic. Please leave it on when others watch.</source>
            <translation>合成映像であることを画像の中に示します。人に見せるときはオンのままにしてください。</translation>
        </message>
        <message>
            <source>Scene</source>
            <translation>シーン</translation>
        </message>
        <message>
            <source>Score of the portrait</source>
            <translation>ポートレートの評価</translation>
        </message>
        <message>
            <source>Score {score} of 100</source>
            <translation>評価 {score}／100</translation>
        </message>
        <message>
            <source>Score {score} of 100: {remarks}</source>
            <translation>評価 {score}／100：{remarks}</translation>
        </message>
        <message>
            <source>Secure Boot is on: if modprobe says that the key was rejected, enrol the key that signs the module, restart, and confirm it in the blue menu</source>
            <translation>セキュアブートが有効です。modprobe が鍵を拒否した場合は、モジュールに署名した鍵を登録し、再起動して青いメニューで承認してください</translation>
        </message>
        <message>
            <source>See and adjust the crop</source>
            <translation>切り抜きを確認・調整する</translation>
        </message>
        <message>
            <source>See which program it is, and close it</source>
            <translation>どのプログラムか調べて、閉じてください</translation>
        </message>
        <message>
            <source>Settings &gt; Privacy &amp; security &gt; Camera</source>
            <translation>設定 &gt; プライバシーとセキュリティ &gt; カメラ</translation>
        </message>
        <message>
            <source>Sharpness</source>
            <translation>鮮明さ</translation>
        </message>
        <message>
            <source>Shift</source>
            <translation>ずれ</translation>
        </message>
        <message>
            <source>Shoulders, hair and the room are seen as far as the photo shows them, not the portrait's square alone.</source>
            <translation>ポートレートの正方形だけでなく、肩、髪、部屋も写真に写っている範囲で表示されます。</translation>
        </message>
        <message>
            <source>Show below what is measured (I).</source>
            <translation>測定値を下に表示します（I）。</translation>
        </message>
        <message>
            <source>Show me the output as in a mirror (R), but for the badge; the call sees it unchanged.</source>
            <translation>出力を鏡のように見せます（R、バッジを除く）。通話に見える映像は変わりません。</translation>
        </message>
        <message>
            <source>Show my camera picture</source>
            <translation>自分のカメラ映像を表示</translation>
        </message>
        <message>
            <source>Show no face at once (0; from a dialog Ctrl+0)</source>
            <translation>すぐに顔を隠す（0、ダイアログからは Ctrl+0）</translation>
        </message>
        <message>
            <source>Show or hide my camera picture</source>
            <translation>自分のカメラ映像の表示・非表示</translation>
        </message>
        <message>
            <source>Show the avatar in the preview again (G)</source>
            <translation>プレビューにアバターを再び表示（G）</translation>
        </message>
        <message>
            <source>Show the avatar to the call (G)</source>
            <translation>アバターを通話に見せる（G）</translation>
        </message>
        <message>
            <source>Show the checklist of the first launch.</source>
            <translation>初回起動時のチェックリストを表示します。</translation>
        </message>
        <message>
            <source>Show the controls here</source>
            <translation>ここに操作を表示</translation>
        </message>
        <message>
            <source>Show the folder of recordings and snapshots</source>
            <translation>録画と静止画のフォルダーを表示</translation>
        </message>
        <message>
            <source>Show the next step</source>
            <translation>次の手順を表示</translation>
        </message>
        <message>
            <source>Show the portraits here</source>
            <translation>ここにポートレートを表示</translation>
        </message>
        <message>
            <source>Show the slate without a picture again</source>
            <translation>待機画面を画像なしに戻す</translation>
        </message>
        <message>
            <source>Show the whole photo</source>
            <translation>写真全体を表示する</translation>
        </message>
        <message>
            <source>Show what the network does with your motion (N).</source>
            <translation>ネットワークが動きをどう扱うかを表示します（N）。</translation>
        </message>
        <message>
            <source>Show window</source>
            <translation>ウィンドウを表示</translation>
        </message>
        <message>
            <source>Shows the portrait's own pores and hairs, which the network leaves out, as far as its picture has the pixels. It takes some milliseconds per picture: switch it off if the avatar stutters.</source>
            <translation>ネットワークが省いてしまうポートレート自身の毛穴や髪を、元の画像の画素数が許す限り表示します。1 枚につき数ミリ秒かかるため、アバターがカクつくときはオフにしてください。</translation>
        </message>
        <message>
            <source>Shows the slate from every window: press the key that you want, such as Ctrl+Alt+0.</source>
            <translation>どのウィンドウからも待機画面にします。使いたいキー（Ctrl+Alt+0 など）を押してください。</translation>
        </message>
        <message>
            <source>Sideways</source>
            <translation>左右</translation>
        </message>
        <message>
            <source>Silent while you show the slate.</source>
            <translation>待機画面の間は無音です。</translation>
        </message>
        <message>
            <source>Size</source>
            <translation>サイズ</translation>
        </message>
        <message>
            <source>Slate</source>
            <translation>待機画面</translation>
        </message>
        <message>
            <source>Slate at once: the call sees no face</source>
            <translation>すぐに待機画面：通話に顔は見えません</translation>
        </message>
        <message>
            <source>Slate key</source>
            <translation>待機キー</translation>
        </message>
        <message>
            <source>Slate says</source>
            <translation>文言</translation>
        </message>
        <message>
            <source>Slate's picture…</source>
            <translation>待機画面の画像…</translation>
        </message>
        <message>
            <source>Smoothing</source>
            <translation>平滑化</translation>
        </message>
        <message>
            <source>Snapshot</source>
            <translation>静止画</translation>
        </message>
        <message>
            <source>Something unexpected went wrong ({key}): {error}.</source>
            <translation>予期しない問題が起きました（{key}）：{error}。</translation>
        </message>
        <message>
            <source>Something unexpected went wrong in the window: {kind}: {error}. The log tells more.</source>
            <translation>ウィンドウで予期しない問題が起きました：{kind}：{error}。詳しくはログをご覧ください。</translation>
        </message>
        <message>
            <source>Sound</source>
            <translation>音声</translation>
        </message>
        <message>
            <source>Speak as you will in the recording: the bar should reach the middle, and not turn red.</source>
            <translation>録画のときと同じように話してください。バーが中央に届き、赤くならないのが目安です。</translation>
        </message>
        <message>
            <source>Speed here: not measured yet</source>
            <translation>この環境での速度：未測定</translation>
        </message>
        <message>
            <source>Speed here: {frame_ms:.3g} ms per frame, measured</source>
            <translation>この環境での速度：1 フレーム {frame_ms:.3g} ms（実測）</translation>
        </message>
        <message>
            <source>Square to animate</source>
            <translation>動かす四角形</translation>
        </message>
        <message>
            <source>Standard</source>
            <translation>標準</translation>
        </message>
        <message>
            <source>Start PipeWire again</source>
            <translation>PipeWire を再起動してください</translation>
        </message>
        <message>
            <source>Start again</source>
            <translation>再開</translation>
        </message>
        <message>
            <source>Start as usual</source>
            <translation>通常どおり起動</translation>
        </message>
        <message>
            <source>Start it, now and at every login</source>
            <translation>今すぐ、またログインのたびに起動するようにしてください</translation>
        </message>
        <message>
            <source>Start or stop the recording</source>
            <translation>録画の開始と停止</translation>
        </message>
        <message>
            <source>Start safely</source>
            <translation>セーフスタート</translation>
        </message>
        <message>
            <source>Start the app as the user who is logged in, and not with sudo</source>
            <translation>sudo ではなく、ログイン中のユーザーとしてアプリを起動してください</translation>
        </message>
        <message>
            <source>Statistics</source>
            <translation>統計</translation>
        </message>
        <message>
            <source>Status</source>
            <translation>状態</translation>
        </message>
        <message>
            <source>Step {number}, {title}: {state}. {text}</source>
            <translation>手順 {number}、{title}：{state}。{text}</translation>
        </message>
        <message>
            <source>Step {step} of {steps}</source>
            <translation>手順 {step}／{steps}</translation>
        </message>
        <message>
            <source>Still learning: step unknown</source>
            <translation>学習中：ステップ不明</translation>
        </message>
        <message>
            <source>Still learning: step {step}</source>
            <translation>学習中：ステップ {step}</translation>
        </message>
        <message>
            <source>Still learning: step {step} of {of}</source>
            <translation>学習中：ステップ {step}／{of}</translation>
        </message>
        <message>
            <source>Stop</source>
            <translation>停止</translation>
        </message>
        <message>
            <source>Stop everything and quit</source>
            <translation>すべて停止して終了</translation>
        </message>
        <message>
            <source>Stop painting it, as saves power; the call and recordings go on.</source>
            <translation>描画をやめて電力を節約します。通話と録画は続きます。</translation>
        </message>
        <message>
            <source>Stop recording</source>
            <translation>録画を停止</translation>
        </message>
        <message>
            <source>Stop recording my motion</source>
            <translation>自分の動きの記録を停止</translation>
        </message>
        <message>
            <source>Stop the virtual camera in OBS</source>
            <translation>OBS の仮想カメラを停止してください</translation>
        </message>
        <message>
            <source>Straighten</source>
            <translation>傾き補正</translation>
        </message>
        <message>
            <source>Strengths of motion and expression, with all their parts, by name. Each portrait remembers its own.</source>
            <translation>動きと表情の強さを、すべての部分を含めて名前で保存します。ポートレートごとの強さも記憶されます。</translation>
        </message>
        <message>
            <source>Switch on</source>
            <translation>オンにする</translation>
        </message>
        <message>
            <source>Switch the virtual camera off first: a call keeps what it began with.</source>
            <translation>先に仮想カメラをオフにしてください。通話中は始めたときの設定が保たれます。</translation>
        </message>
        <message>
            <source>Switch the virtual camera off first: no model runs.</source>
            <translation>先に仮想カメラをオフにしてください。動作中のモデルがありません。</translation>
        </message>
        <message>
            <source>System</source>
            <translation>システム</translation>
        </message>
        <message>
            <source>System Settings &gt; Privacy &amp; Security &gt; Camera</source>
            <translation>システム設定 &gt; プライバシーとセキュリティ &gt; カメラ</translation>
        </message>
        <message>
            <source>Take this picture of yours out of the gallery (Delete)</source>
            <translation>この自分の画像をギャラリーから外す（Delete）</translation>
        </message>
        <message>
            <source>Text of the slate</source>
            <translation>待機画面の文言</translation>
        </message>
        <message>
            <source>The address that the camera's app shows, such as http://192.168.1.20:8080/video or rtsp://192.168.1.20/live.
If it wants a password: http://USER:PASSWORD@192.168.1.20:8080/video</source>
            <translation>カメラのアプリに表示されるアドレス。例：http://192.168.1.20:8080/video または rtsp://192.168.1.20/live。
パスワードが必要な場合：http://USER:PASSWORD@192.168.1.20:8080/video</translation>
        </message>
        <message>
            <source>The app did not end in order last time: it crashed or was killed.</source>
            <translation>前回、アプリは正常に終了しませんでした。異常終了したか、強制終了されました。</translation>
        </message>
        <message>
            <source>The avatar keeps its own face and looks where you look, however you were turned at the calibration.</source>
            <translation>アバターは自分の顔を保ち、あなたの見る方を向きます。調整時の向きは問いません。</translation>
        </message>
        <message>
            <source>The avatar moves as you move in the picture since the calibration: the paper's way.</source>
            <translation>アバターは、調整時からのあなたの画像内の動きに合わせて動きます（論文の方式）。</translation>
        </message>
        <message>
            <source>The avatar takes your very pose and face: for a portrait of yourself.</source>
            <translation>アバターはあなたの姿勢と顔をそのまま写します。自分のポートレート向けです。</translation>
        </message>
        <message>
            <source>The background stays still behind the person, instead of moving along with the head.</source>
            <translation>背景が頭と一緒に動かず、人物の後ろで静止します。</translation>
        </message>
        <message>
            <source>The brows raised and knit.</source>
            <translation>眉を上げたり寄せたりする動き。</translation>
        </message>
        <message>
            <source>The camera that sees you. Only the avatar leaves this app, never its picture.</source>
            <translation>あなたを写すカメラ。このアプリから出るのはアバターだけで、カメラの映像は決して出ません。</translation>
        </message>
        <message>
            <source>The camera {name} is away ({error}). It comes back by itself.</source>
            <translation>カメラ {name} がなくなりました（{error}）。自動的に戻ります。</translation>
        </message>
        <message>
            <source>The card beside {name} is of other weights: do not trust what it says.</source>
            <translation>{name} の隣のカードは別の重みのものです。内容を信用しないでください。</translation>
        </message>
        <message>
            <source>The first nine portraits</source>
            <translation>最初の 9 個のポートレート</translation>
        </message>
        <message>
            <source>The folder {folder} does not answer: what goes there waits for it. Choose another folder under “Output and computer” if it stays so.</source>
            <translation>フォルダー {folder} が応答しません：そこに保存するものは待機しています。この状態が続く場合は、「出力とコンピューター」で別のフォルダーを選んでください。</translation>
        </message>
        <message>
            <source>The head leant towards a shoulder.</source>
            <translation>頭を肩の方へ傾ける動き。</translation>
        </message>
        <message>
            <source>The head moved in the picture.</source>
            <translation>画像の中で頭がずれる動き。</translation>
        </message>
        <message>
            <source>The head moved towards the camera and away from it.</source>
            <translation>頭をカメラに近づけたり遠ざけたりする動き。</translation>
        </message>
        <message>
            <source>The head raised and lowered.</source>
            <translation>頭を上げ下げする動き。</translation>
        </message>
        <message>
            <source>The head turned to the sides.</source>
            <translation>頭を左右に向ける動き。</translation>
        </message>
        <message>
            <source>The key is not heard: {why}.</source>
            <translation>キーを受け取れません：{why}。</translation>
        </message>
        <message>
            <source>The language changes at the next start of the app.</source>
            <translation>言語は次回の起動時に切り替わります。</translation>
        </message>
        <message>
            <source>The microphone for calls is being made…</source>
            <translation>通話用マイクを作成中…</translation>
        </message>
        <message>
            <source>The microphone is being opened…</source>
            <translation>マイクを開いています…</translation>
        </message>
        <message>
            <source>The model has given no picture for a while, so the output shows the slate. It goes on by itself once there is one; if it stays so, start again.</source>
            <translation>モデルからしばらく画像が届かないため、出力に待機画面を表示しています。画像が届けば自動的に再開します。続くときは「再開」を押してください。</translation>
        </message>
        <message>
            <source>The model's card</source>
            <translation>モデルのカード</translation>
        </message>
        <message>
            <source>The network that animates the portrait: the bundled one, or a file or folder of yours.</source>
            <translation>ポートレートを動かすネットワーク：付属のもの、またはご自身のファイルやフォルダー。</translation>
        </message>
        <message>
            <source>The one chosen before</source>
            <translation>以前選んだもの</translation>
        </message>
        <message>
            <source>The output shows the slate.</source>
            <translation>出力は待機画面を表示しています。</translation>
        </message>
        <message>
            <source>The picture is that late. Set this delay for your microphone (OBS: Advanced audio properties, sync offset) and lips and sound agree.</source>
            <translation>映像はこれだけ遅れます。マイクに同じ遅延を設定すると（OBS：オーディオの詳細プロパティ、同期オフセット）、唇と音声が合います。</translation>
        </message>
        <message>
            <source>The portrait over your picture (Z and C); for motion in the plane, to line up the pose.</source>
            <translation>自分の映像に重ねるポートレート（Z と C）。平面モードで姿勢を合わせるときに使います。</translation>
        </message>
        <message>
            <source>The portrait {first} is not in the gallery any more; {name} is used.</source>
            <translation>ポートレート {first} はもうギャラリーにありません。{name} を使います。</translation>
        </message>
        <message>
            <source>The portrait's own, blurred</source>
            <translation>ポートレートの背景（ぼかし）</translation>
        </message>
        <message>
            <source>The portrait's own, still</source>
            <translation>ポートレートの背景（静止）</translation>
        </message>
        <message>
            <source>The portrait, moved and nothing else</source>
            <translation>ポートレートを動かしただけのもの</translation>
        </message>
        <message>
            <source>The preset {name} has these strengths now.</source>
            <translation>プリセット {name} をこの強さにしました。</translation>
        </message>
        <message>
            <source>The preset {name} was deleted.</source>
            <translation>プリセット {name} を削除しました。</translation>
        </message>
        <message>
            <source>The presets could not be read ({error}). There are none for now; {kept}.</source>
            <translation>プリセットを読み込めませんでした（{error}）。今はプリセットがありません。{kept}。</translation>
        </message>
        <message>
            <source>The preview is paused; the output goes on.</source>
            <translation>プレビューは一時停止中です。出力は続いています。</translation>
        </message>
        <message>
            <source>The recording goes on without sound, which failed ({error}). For sound, begin another one.</source>
            <translation>音声に失敗したため（{error}）、録画は音声なしで続きます。音声を入れるには新しく録画を始めてください。</translation>
        </message>
        <message>
            <source>The recording had not begun: there is no file.</source>
            <translation>録画はまだ始まっていなかったため、ファイルはありません。</translation>
        </message>
        <message>
            <source>The recording has no sound, since its encoder cannot be opened ({error}). Install the app again.</source>
            <translation>音声のエンコーダーを開けないため（{error}）、録画に音声がありません。アプリを再インストールしてください。</translation>
        </message>
        <message>
            <source>The recording of your motion ended: {why}.</source>
            <translation>動きの記録が終わりました：{why}。</translation>
        </message>
        <message>
            <source>The same, from a dialog for files or colours too</source>
            <translation>同じ操作。ファイルや色のダイアログからも使えます</translation>
        </message>
        <message>
            <source>The settings could not be read ({error}). Defaults are in use; {kept}.</source>
            <translation>設定を読み込めませんでした（{error}）。既定値を使います。{kept}。</translation>
        </message>
        <message>
            <source>The slate cannot show {characters}. Leave that out, or choose a picture that shows it for the slate.</source>
            <translation>待機画面には {characters} を表示できません。取り除くか、それを描いた待機画面の画像を選んでください。</translation>
        </message>
        <message>
            <source>The slate key is not heard: {why}.</source>
            <translation>待機キーを受け取れません：{why}。</translation>
        </message>
        <message>
            <source>The system does not let this app use the camera. Allow it in System Settings, Privacy.</source>
            <translation>システムがこのアプリにカメラの使用を許可していません。システム設定の「プライバシー」で許可してください。</translation>
        </message>
        <message>
            <source>The system is asked for the key…</source>
            <translation>システムにキーを要求しています…</translation>
        </message>
        <message>
            <source>The system's usual one</source>
            <translation>システムの既定</translation>
        </message>
        <message>
            <source>The virtual camera {called} does not answer ({cause}).</source>
            <translation>仮想カメラ {called} が応答しません（{cause}）。</translation>
        </message>
        <message>
            <source>The virtual camera {called} is in use by another program.</source>
            <translation>仮想カメラ {called} は別のプログラムが使用中です。</translation>
        </message>
        <message>
            <source>The virtual camera {called} is in use by {by}.</source>
            <translation>仮想カメラ {called} は {by} が使用中です。</translation>
        </message>
        <message>
            <source>The virtual camera {called} is ready, but Chrome and Teams will not list it (exclusive_caps=0).</source>
            <translation>仮想カメラ {called} は準備できていますが、Chrome と Teams には表示されません（exclusive_caps=0）。</translation>
        </message>
        <message>
            <source>The virtual camera {called} is ready.</source>
            <translation>仮想カメラ {called} は準備できています。</translation>
        </message>
        <message>
            <source>The virtual camera {called} is there, but you may not use it.</source>
            <translation>仮想カメラ {called} はありますが、使用する権限がありません。</translation>
        </message>
        <message>
            <source>The virtual camera {called} takes our pictures.</source>
            <translation>仮想カメラ {called} が映像を受け取っています。</translation>
        </message>
        <message>
            <source>The virtual camera {name} is ready.</source>
            <translation>仮想カメラ {name} は準備できています。</translation>
        </message>
        <message>
            <source>The {camera} is in use: OBS itself or another program writes to it.</source>
            <translation>{camera} は使用中です。OBS 自身か別のプログラムが書き込んでいます。</translation>
        </message>
        <message>
            <source>The {camera} is installed, but you have not approved it yet.</source>
            <translation>{camera} はインストール済みですが、まだ許可されていません。</translation>
        </message>
        <message>
            <source>The {camera} is ready.</source>
            <translation>{camera} は準備できています。</translation>
        </message>
        <message>
            <source>Theme</source>
            <translation>テーマ</translation>
        </message>
        <message>
            <source>There is no face in this square of {name}: move the square over a face that looks towards the camera, or choose the automatic crop.</source>
            <translation>{name} のこの四角形に顔がありません。カメラの方を向いた顔の上に動かすか、自動切り抜きを選んでください。</translation>
        </message>
        <message>
            <source>There is no folder {folder} to open yet: it is made with the first recording or snapshot.</source>
            <translation>フォルダー {folder} はまだありません：最初の録画または静止画のときに作られます。</translation>
        </message>
        <message>
            <source>There is no picture in the clipboard: copy one first.</source>
            <translation>クリップボードに画像がありません。先にコピーしてください。</translation>
        </message>
        <message>
            <source>There is no picture in the folder {folder}: choose one that has some.</source>
            <translation>フォルダー {folder} に画像がありません。画像のあるフォルダーを選んでください。</translation>
        </message>
        <message>
            <source>There is no picture yet to save.</source>
            <translation>保存できる画像がまだありません。</translation>
        </message>
        <message>
            <source>There is no virtual camera at {device}: got {what}, expected a device of v4l2loopback.</source>
            <translation>{device} に仮想カメラがありません：{what} があります。v4l2loopback のデバイスが必要です。</translation>
        </message>
        <message>
            <source>There is no virtual camera for {system}: expected Linux, Windows or macOS.</source>
            <translation>{system} 用の仮想カメラはありません。Linux、Windows、macOS のいずれかが必要です。</translation>
        </message>
        <message>
            <source>There is no virtual camera in a safe start: start the app again.</source>
            <translation>セーフスタートでは仮想カメラを使えません。アプリを起動し直してください。</translation>
        </message>
        <message>
            <source>There is no virtual camera {device}: expected {camera} or UnityCapture's.</source>
            <translation>仮想カメラ {device} はありません。{camera} か UnityCapture のものが必要です。</translation>
        </message>
        <message>
            <source>There is no virtual camera {device}: expected {camera}.</source>
            <translation>仮想カメラ {device} はありません。{camera} が必要です。</translation>
        </message>
        <message>
            <source>There is no virtual camera: OBS Studio brings one.</source>
            <translation>仮想カメラがありません。OBS Studio に付属しています。</translation>
        </message>
        <message>
            <source>There is no virtual camera: OBS is installed, its camera not yet ({camera}).</source>
            <translation>仮想カメラがありません。OBS はありますが、そのカメラがまだです（{camera}）。</translation>
        </message>
        <message>
            <source>There is no virtual camera: got macOS {release}, expected 13 or newer.</source>
            <translation>仮想カメラがありません。macOS {release} です。13 以降が必要です。</translation>
        </message>
        <message>
            <source>There is no virtual camera: v4l2loopback is installed, but not loaded.</source>
            <translation>仮想カメラがありません。v4l2loopback はインストール済みですが、読み込まれていません。</translation>
        </message>
        <message>
            <source>There is no virtual camera: v4l2loopback is not installed for the kernel {kernel}.</source>
            <translation>仮想カメラがありません。カーネル {kernel} 用の v4l2loopback がインストールされていません。</translation>
        </message>
        <message>
            <source>There is nothing to record at the moment: wait until the preview goes on.</source>
            <translation>今は録画するものがありません。プレビューが再開するまでお待ちください。</translation>
        </message>
        <message>
            <source>This is a safe start: the processor computes, there is no virtual camera, and all settings are the defaults. Nothing of them is kept; your own are back with the next start.</source>
            <translation>セーフスタートです。計算はプロセッサーで行い、仮想カメラはなく、設定はすべて既定値です。ここでの変更は保存されず、次回の起動でご自身の設定に戻ります。</translation>
        </message>
        <message>
            <source>This is only the address of a picture: copy the picture itself, or save it and add the file.</source>
            <translation>これは画像のアドレスだけです。画像そのものをコピーするか、保存してファイルを追加してください。</translation>
        </message>
        <message>
            <source>This list</source>
            <translation>この一覧</translation>
        </message>
        <message>
            <source>This portrait's own</source>
            <translation>このポートレート専用</translation>
        </message>
        <message>
            <source>Tick first that you may use this picture</source>
            <translation>先に、この画像を使う権利があることを確認してください</translation>
        </message>
        <message>
            <source>Tilt</source>
            <translation>傾き</translation>
        </message>
        <message>
            <source>Trying again in {seconds} s.</source>
            <translation>{seconds} 秒後に再試行します。</translation>
        </message>
        <message>
            <source>Turn</source>
            <translation>左右の向き</translation>
        </message>
        <message>
            <source>Turn to the left</source>
            <translation>左に回転</translation>
        </message>
        <message>
            <source>Turn to the left by a quarter (Page Up)</source>
            <translation>左に 4 分の 1 回転（Page Up）</translation>
        </message>
        <message>
            <source>Turn to the right</source>
            <translation>右に回転</translation>
        </message>
        <message>
            <source>Turn to the right by a quarter (Page Down)</source>
            <translation>右に 4 分の 1 回転（Page Down）</translation>
        </message>
        <message>
            <source>Turns the picture a little (comma and full stop).</source>
            <translation>画像を少し回転します（コンマとピリオド）。</translation>
        </message>
        <message>
            <source>Undo</source>
            <translation>元に戻す</translation>
        </message>
        <message>
            <source>Up and down</source>
            <translation>上下</translation>
        </message>
        <message>
            <source>Update macOS</source>
            <translation>macOS を更新してください</translation>
        </message>
        <message>
            <source>Use a video file…</source>
            <translation>動画ファイル…</translation>
        </message>
        <message>
            <source>Use a video, in a loop, instead of a camera</source>
            <translation>カメラの代わりに動画を繰り返し使う</translation>
        </message>
        <message>
            <source>Use it all the same</source>
            <translation>それでも使う</translation>
        </message>
        <message>
            <source>Use this camera</source>
            <translation>このカメラを使う</translation>
        </message>
        <message>
            <source>Use this portrait</source>
            <translation>このポートレートを使う</translation>
        </message>
        <message>
            <source>Videos ({endings});;All files (*)</source>
            <translation>動画 ({endings});;すべてのファイル (*)</translation>
        </message>
        <message>
            <source>View</source>
            <translation>表示</translation>
        </message>
        <message>
            <source>Views</source>
            <translation>表示</translation>
        </message>
        <message>
            <source>Virtual camera</source>
            <translation>仮想カメラ</translation>
        </message>
        <message>
            <source>Warped</source>
            <translation>変形</translation>
        </message>
        <message>
            <source>What is missing before going live</source>
            <translation>ライブ開始に不足しているもの</translation>
        </message>
        <message>
            <source>What is missing, and what to do</source>
            <translation>不足しているものと対処</translation>
        </message>
        <message>
            <source>What is seen around the portrait, or behind the person.</source>
            <translation>ポートレートの周り、または人物の後ろに見えるもの。</translation>
        </message>
        <message>
            <source>What other programs have to show; keep it secret</source>
            <translation>ほかのプログラムが示す必要のあるもの。秘密にしてください</translation>
        </message>
        <message>
            <source>What the avatar does while your face is lost, until the slate comes; it moves with measured keypoints.</source>
            <translation>顔を見失ってから待機画面になるまでのアバターの動作。測定したキーポイントで動きます。</translation>
        </message>
        <message>
            <source>What the decoder makes of it, with the memory's help</source>
            <translation>メモリーの助けでデコーダーが作るもの</translation>
        </message>
        <message>
            <source>What the marked place takes from the memory; click to mark another one</source>
            <translation>印の位置がメモリーから受け取るもの。クリックで印を移動</translation>
        </message>
        <message>
            <source>What the network does inside</source>
            <translation>ネットワークの内部</translation>
        </message>
        <message>
            <source>What the run has learned since cannot be used: {error}. What it had learned before goes on.</source>
            <translation>その後の学習結果は使えません：{error}。以前の学習結果を使い続けます。</translation>
        </message>
        <message>
            <source>What the slate says instead of “Camera is off” or “Be right back”; Enter keeps it.</source>
            <translation>「Camera is off」や「Be right back」の代わりに待機画面に表示する文言。Enter で確定します。</translation>
        </message>
        <message>
            <source>What to do</source>
            <translation>対処</translation>
        </message>
        <message>
            <source>What will be animated</source>
            <translation>動かす部分</translation>
        </message>
        <message>
            <source>Where other programs ask; Enter keeps it. 0: any port that is free.</source>
            <translation>ほかのプログラムの接続先。Enter で確定します。0：空いている任意のポート。</translation>
        </message>
        <message>
            <source>Where the eyes look.</source>
            <translation>目がどこを見るか。</translation>
        </message>
        <message>
            <source>Where the model runs. Automatic: where it was measured to be fastest.</source>
            <translation>モデルを動かす場所。自動：測定で最も速かった場所。</translation>
        </message>
        <message>
            <source>Where the portrait stands; it can be dragged in the preview.</source>
            <translation>ポートレートの位置。プレビューでドラッグできます。</translation>
        </message>
        <message>
            <source>Where what is shown came from: the direction as a hue, 20 px and more in full colour</source>
            <translation>表示されている部分がどこから来たか：向きを色相で、20 px 以上を最も濃い色で表示</translation>
        </message>
        <message>
            <source>Which keypoint's motion moves each place, by colour; dark: the background's</source>
            <translation>各位置を動かすキーポイントを色で表示。暗い色は背景</translation>
        </message>
        <message>
            <source>While away</source>
            <translation>離席中</translation>
        </message>
        <message>
            <source>Whose sound recordings have, and calls that take the microphone for calls.</source>
            <translation>録画に入れる音声と、通話用マイクを使う通話の音声。</translation>
        </message>
        <message>
            <source>Window</source>
            <translation>ウィンドウ</translation>
        </message>
        <message>
            <source>Windows gives the key to this app</source>
            <translation>Windows がこのアプリにキーを渡します</translation>
        </message>
        <message>
            <source>Without</source>
            <translation>画像なし</translation>
        </message>
        <message>
            <source>Yellow: the moved portrait is trusted; blue: the picture is generated</source>
            <translation>黄：動かしたポートレートを信頼、青：生成した画像</translation>
        </message>
        <message>
            <source>You are not asked to calibrate again before the same camera. What your face measures is kept on this computer for that, for your account alone; switched off, it is deleted.</source>
            <translation>同じカメラでは再調整を求めません。そのために顔の測定値を、このコンピューターのあなたのアカウントだけに保存します。オフにすると削除されます。</translation>
        </message>
        <message>
            <source>You, as only you see yourself</source>
            <translation>あなたにだけ見える、あなたの映像</translation>
        </message>
        <message>
            <source>You, with the crop that moves the avatar. Nobody else sees this. Click for another size.</source>
            <translation>あなたの映像と、アバターを動かす切り抜き。ほかの人には見えません。クリックで大きさが変わります。</translation>
        </message>
        <message>
            <source>Your own picture in the preview's corner (B). Hide it before you share this window.</source>
            <translation>プレビューの隅に出る自分の映像（B）。このウィンドウを共有する前に隠してください。</translation>
        </message>
        <message>
            <source>Zoom</source>
            <translation>ズーム</translation>
        </message>
        <message>
            <source>Zoom in on you</source>
            <translation>自分を拡大</translation>
        </message>
        <message>
            <source>Zoom out</source>
            <translation>縮小</translation>
        </message>
        <message>
            <source>a camera's number (0), a device (/dev/video0), a network camera's address (http://, rtsp://), a video or motion file, or a folder of pictures</source>
            <translation>カメラの番号（0）、デバイス（/dev/video0）、ネットワークカメラのアドレス（http://、rtsp://）、動画ファイルかモーションファイル、または画像のフォルダー</translation>
        </message>
        <message>
            <source>a frame of the model takes {best}</source>
            <translation>モデルの 1 フレームは {best}</translation>
        </message>
        <message>
            <source>a frame of the model takes {best} ({others})</source>
            <translation>モデルの 1 フレームは {best}（{others}）</translation>
        </message>
        <message>
            <source>a further GPU</source>
            <translation>もう 1 つの GPU</translation>
        </message>
        <message>
            <source>a list of whole numbers</source>
            <translation>整数のリスト</translation>
        </message>
        <message>
            <source>a motion file has no pictures in which this model could detect keypoints: choose a model and a portrait whose keypoints can be measured, as the starter and any portrait with a face</source>
            <translation>モーションファイルには画像がないため、このモデルはキーポイントを検出できません：キーポイントを測定できるモデルとポートレート（starter と、顔のあるポートレートなど）を選んでください</translation>
        </message>
        <message>
            <source>a motion file has no pictures, so that it moves the avatar in space only: choose that motion</source>
            <translation>モーションファイルには画像がないため、アバターは空間モードでしか動きません：そのモードを選んでください</translation>
        </message>
        <message>
            <source>a motion file takes no more than {hours} hours</source>
            <translation>モーションファイルは最大 {hours} 時間までです</translation>
        </message>
        <message>
            <source>a number of thousands of digits</source>
            <translation>何千桁もの数</translation>
        </message>
        <message>
            <source>a picture becomes a portrait, a video the camera</source>
            <translation>画像はポートレートに、動画はカメラになります</translation>
        </message>
        <message>
            <source>a portrait needs a name: got an empty one for {name}, so it keeps its own</source>
            <translation>ポートレートには名前が必要です。{name} の名前が空のため、元の名前のままにします</translation>
        </message>
        <message>
            <source>a single number</source>
            <translation>数値 1 つ</translation>
        </message>
        <message>
            <source>a table of values</source>
            <translation>値の表</translation>
        </message>
        <message>
            <source>about {rate_hz:.2g} frames per second are too slow for a call: close what else is running and press Measure under First steps, or use a computer with a GPU</source>
            <translation>毎秒約 {rate_hz:.2g} フレームでは通話には遅すぎます。ほかのアプリを閉じて「はじめに」の「測定」を押すか、GPU のあるコンピューターを使ってください</translation>
        </message>
        <message>
            <source>age</source>
            <translation>遅れ</translation>
        </message>
        <message>
            <source>an AMD GPU</source>
            <translation>AMD の GPU</translation>
        </message>
        <message>
            <source>an NVIDIA GPU</source>
            <translation>NVIDIA の GPU</translation>
        </message>
        <message>
            <source>an empty file</source>
            <translation>空のファイル</translation>
        </message>
        <message>
            <source>an even width at {size_px} px (compensated)</source>
            <translation>{size_px} pxでは偶数の幅（補償あり）</translation>
        </message>
        <message>
            <source>an odd number</source>
            <translation>奇数</translation>
        </message>
        <message>
            <source>another camera is used now</source>
            <translation>別のカメラに切り替わりました</translation>
        </message>
        <message>
            <source>another program has it, maybe another mcnet-avatar</source>
            <translation>別のプログラムが使用中です（別の mcnet-avatar かもしれません）</translation>
        </message>
        <message>
            <source>as asked</source>
            <translation>指定どおり</translation>
        </message>
        <message>
            <source>as measured</source>
            <translation>測定の結果</translation>
        </message>
        <message>
            <source>as usual</source>
            <translation>通常どおり</translation>
        </message>
        <message>
            <source>asked for {asked_hz:g} frames/s, gives {given_hz:g} (more light often helps)</source>
            <translation>要求は {asked_hz:g} フレーム/秒、実際は {given_hz:g}（明るくすると改善することがあります）</translation>
        </message>
        <message>
            <source>asked for {asked}, gives {given}</source>
            <translation>要求は {asked}、実際は {given}</translation>
        </message>
        <message>
            <source>at least two widths</source>
            <translation>2つ以上の幅</translation>
        </message>
        <message>
            <source>at least {least}</source>
            <translation>{least}以上</translation>
        </message>
        <message>
            <source>at most {most}</source>
            <translation>{most}以下</translation>
        </message>
        <message>
            <source>avatar</source>
            <translation>アバター</translation>
        </message>
        <message>
            <source>backend: OpenVINO failed: {failure}</source>
            <translation>バックエンド：OpenVINO が失敗しました：{failure}</translation>
        </message>
        <message>
            <source>backend: got 'cudagraph', but {device} was chosen, expected an NVIDIA GPU</source>
            <translation>バックエンド：「cudagraph」が指定されましたが、{device} が選ばれています。NVIDIA の GPU が必要です</translation>
        </message>
        <message>
            <source>backend: got 'cudagraph', but {reason}; use backend auto or torch</source>
            <translation>バックエンド：「cudagraph」が指定されましたが、{reason}。バックエンド auto か torch を使ってください</translation>
        </message>
        <message>
            <source>backend: got 'openvino', but {lack}; use backend torch (or auto), or mend that</source>
            <translation>バックエンド：「openvino」が指定されましたが、{lack}。バックエンド torch（または auto）を使うか、修正してください</translation>
        </message>
        <message>
            <source>backend: got 'torch', but {device} was chosen, where OpenVINO alone computes: use backend auto, or another device</source>
            <translation>バックエンド：「torch」が指定されましたが、選ばれた {device} では OpenVINO だけが計算します：バックエンド auto か別のデバイスを使ってください</translation>
        </message>
        <message>
            <source>backend: got {wanted}, expected one of {allowed}</source>
            <translation>バックエンド：{wanted} が指定されましたが、{allowed} のいずれかが必要です</translation>
        </message>
        <message>
            <source>backend: torch has to compute, but {lack}; or install OpenVINO, and use a CPU</source>
            <translation>バックエンド：torch で計算する必要がありますが、{lack}。または OpenVINO をインストールして CPU を使ってください</translation>
        </message>
        <message>
            <source>background: {error}; expected own, blur, green, #rrggbb, alpha, or the file of a picture or a video</source>
            <translation>背景：{error}。own、blur、green、#rrggbb、alpha、または画像か動画のファイルが必要です</translation>
        </message>
        <message>
            <source>because {lack}</source>
            <translation>理由：{lack}</translation>
        </message>
        <message>
            <source>blue</source>
            <translation>青</translation>
        </message>
        <message>
            <source>calibration</source>
            <translation>調整</translation>
        </message>
        <message>
            <source>camera</source>
            <translation>カメラ</translation>
        </message>
        <message>
            <source>camera to model</source>
            <translation>カメラからモデル</translation>
        </message>
        <message>
            <source>camera {device}</source>
            <translation>カメラ {device}</translation>
        </message>
        <message>
            <source>camera {name}</source>
            <translation>カメラ {name}</translation>
        </message>
        <message>
            <source>camera: got an address that begins with {scheme}://, expected http://, https:// or rtsp://</source>
            <translation>カメラ：アドレスが {scheme}:// で始まっています。http://、https://、rtsp:// のいずれかが必要です</translation>
        </message>
        <message>
            <source>camera: got an address that cannot be read, expected one such as {scheme}://192.168.1.20:8080/video; in a user name or password write / as %2F, @ as %40, # as %23 and ? as %3F</source>
            <translation>カメラ：アドレスを読み取れません。{scheme}://192.168.1.20:8080/video のように指定してください。ユーザー名やパスワードでは / を %2F、@ を %40、# を %23、? を %3F と書きます</translation>
        </message>
        <message>
            <source>camera: got nothing, expected {expected}</source>
            <translation>カメラ：何も指定されていません。必要なもの：{expected}</translation>
        </message>
        <message>
            <source>camera: got {asked} for size and rate, expected {least_px} to 8192 pixels per side and 1 to 240 frames/s, as @1280x720@30</source>
            <translation>カメラ：サイズとレートに {asked} が指定されましたが、@1280x720@30 のように 1 辺 {least_px}～8192 ピクセル、1～240 フレーム/秒が必要です</translation>
        </message>
        <message>
            <source>camera: got {shown}, and there is no such file; expected {expected}</source>
            <translation>カメラ：{shown} が指定されましたが、そのファイルはありません。必要なもの：{expected}</translation>
        </message>
        <message>
            <source>cannot keep the list of portraits in {folder}: {error}; check the disk</source>
            <translation>ポートレートの一覧を {folder} に保存できません：{error}。ディスクを確認してください</translation>
        </message>
        <message>
            <source>cannot keep the motion in {path}: got {count} frames without a face, expected one at least</source>
            <translation>動きを {path} に保存できません：{count} フレームに顔がありません。少なくとも 1 フレームに必要です</translation>
        </message>
        <message>
            <source>cannot keep the motion in {path}: got {count} frames, expected at most {most}</source>
            <translation>動きを {path} に保存できません：{count} フレームあります。上限は {most} です</translation>
        </message>
        <message>
            <source>cannot keep the motion in {path}: got {hours:.1f} hours, expected at most {most}</source>
            <translation>{path} にモーションを保存できません：{hours:.1f} 時間です。最大は {most} 時間です</translation>
        </message>
        <message>
            <source>cannot keep the motion in {path}: {why}</source>
            <translation>動きを {path} に保存できません：{why}</translation>
        </message>
        <message>
            <source>cannot keep the token of control from outside in {place}: {why}</source>
            <translation>外部からの操作のトークンを {place} に保存できません：{why}</translation>
        </message>
        <message>
            <source>cannot keep the {what} in {path}: {error}; check the folder's permissions</source>
            <translation>{path} に保存できません（{what}）：{error}。フォルダーの権限を確認してください</translation>
        </message>
        <message>
            <source>cannot keep this machine's signer in {path}: {why}</source>
            <translation>このコンピューターの署名者を {path} に保存できません：{why}</translation>
        </message>
        <message>
            <source>cannot make a picture for a {suffix} file: got {type} of shape {shape}, expected uint8 of shape {shapes}, with one pixel at least</source>
            <translation>{suffix} ファイルの画像を作成できません: 形状 {shape} の {type} が渡されましたが、1 ピクセル以上で形状 {shapes} の uint8 が必要です</translation>
        </message>
        <message>
            <source>cannot make a picture for a {suffix} file: got {width} x {height}, expected at most {most} pixels per side; make it smaller</source>
            <translation>{suffix} ファイルの画像を作成できません: {width} x {height} が渡されましたが、1 辺は最大 {most} ピクセルです。小さくしてください</translation>
        </message>
        <message>
            <source>cannot make the folder for portraits {folder}: {error}; check the disk</source>
            <translation>ポートレートのフォルダー {folder} を作れません：{error}。ディスクを確認してください</translation>
        </message>
        <message>
            <source>cannot make the folder {folder}: {cause}</source>
            <translation>フォルダー {folder} を作れません：{cause}</translation>
        </message>
        <message>
            <source>cannot open {path} at {fps_hz} frames/s: expected more than 0</source>
            <translation>{path} を {fps_hz} フレーム/秒で開けません。0 より大きい値が必要です</translation>
        </message>
        <message>
            <source>cannot put the model on {device}: {cause}; use cpu</source>
            <translation>モデルを {device} に置けません：{cause}。cpu を使ってください</translation>
        </message>
        <message>
            <source>cannot put {name} back: {error}; add the picture again</source>
            <translation>{name} を元に戻せません：{error}。画像をもう一度追加してください</translation>
        </message>
        <message>
            <source>cannot read the bundled network {path}: {cause}; reinstall the package</source>
            <translation>付属のネットワーク {path} を読み込めません：{cause}。パッケージを再インストールしてください</translation>
        </message>
        <message>
            <source>cannot read the list of portraits {path}: {error}; check its permissions</source>
            <translation>ポートレートの一覧 {path} を読み込めません：{error}。権限を確認してください</translation>
        </message>
        <message>
            <source>cannot read the picture {path}: got a camera's raw data, expected {readable}; export it as JPEG</source>
            <translation>画像 {path} を読み込めません：カメラの RAW データです。{readable} が必要です。JPEG で書き出してください</translation>
        </message>
        <message>
            <source>cannot read the picture {path}: got a device, expected a file</source>
            <translation>画像 {path} を読み込めません：デバイスです。ファイルが必要です</translation>
        </message>
        <message>
            <source>cannot read the picture {path}: got a folder, expected a file; name one of its files</source>
            <translation>画像 {path} を読み込めません：フォルダーです。中のファイルを指定してください</translation>
        </message>
        <message>
            <source>cannot read the picture {path}: got {what}, expected {readable}</source>
            <translation>画像 {path} を読み込めません：{what} です。{readable} が必要です</translation>
        </message>
        <message>
            <source>cannot read the picture {path}: it is damaged, cut short or of a kind that cannot be decoded ({said}); open it in a viewer and save it as JPEG, or take another</source>
            <translation>画像 {path} を読み込めません：破損しているか、途中で切れているか、デコードできない種類です（{said}）。ビューアーで開いて JPEG で保存するか、別の画像を使ってください</translation>
        </message>
        <message>
            <source>cannot read the picture {path}: {error}</source>
            <translation>画像 {path} を読み込めません：{error}</translation>
        </message>
        <message>
            <source>cannot read the picture {path}: {said}; check its permissions</source>
            <translation>画像 {path} を読み込めません：{said}。権限を確認してください</translation>
        </message>
        <message>
            <source>cannot read the presets in {path}: they are of format {version}, this app knows formats up to {known}; use a newer app, or move the file away</source>
            <translation>{path} のプリセットを読み込めません：形式 {version} です。このアプリが対応するのは {known} までです。新しいアプリを使うか、ファイルを移動してください</translation>
        </message>
        <message>
            <source>cannot read the presets in {path}: {error}; check its permissions, or move it away</source>
            <translation>{path} のプリセットを読み込めません：{error}。権限を確認するか、ファイルを移動してください</translation>
        </message>
        <message>
            <source>cannot read the settings in {path}: {error}; check its permissions, or move it away</source>
            <translation>{path} の設定を読み込めません：{error}。権限を確認するか、ファイルを移動してください</translation>
        </message>
        <message>
            <source>cannot read the video {path}: got a folder, a device or a pipe, and a video is read more than once; save it as a file first</source>
            <translation>動画 {path} を読み込めません。フォルダー、デバイス、またはパイプです。動画は複数回読み込まれるため、先にファイルとして保存してください</translation>
        </message>
        <message>
            <source>cannot read the video {path}: got an empty file; export or download it again</source>
            <translation>動画 {path} を読み込めません：空のファイルです。書き出すかダウンロードし直してください</translation>
        </message>
        <message>
            <source>cannot read the video {path}: {said}; expected a video such as MP4, MOV or WebM</source>
            <translation>動画 {path} を読み込めません：{said}。MP4、MOV、WebM などの動画が必要です</translation>
        </message>
        <message>
            <source>cannot read this machine's signer {path}: {why}</source>
            <translation>このコンピューターの署名者 {path} を読み込めません：{why}</translation>
        </message>
        <message>
            <source>cannot read {path}: got a device or a pipe, expected a file</source>
            <translation>{path} を読み込めません。デバイスまたはパイプです。ファイルが必要です</translation>
        </message>
        <message>
            <source>cannot read {path}: {why}; check its name</source>
            <translation>{path} を読み込めません：{why}。名前を確認してください</translation>
        </message>
        <message>
            <source>cannot record to {path}: got suffix {suffix}, expected .mp4 or .webm</source>
            <translation>{path} に録画できません：拡張子が {suffix} です。.mp4 か .webm が必要です</translation>
        </message>
        <message>
            <source>cannot record to {path}: the encoder {codec} cannot be opened for {width_px} x {height_px} ({cause}); choose another size, or install the app again</source>
            <translation>{path} に録画できません：エンコーダー {codec} を {width_px} x {height_px} で開けません（{cause}）。別のサイズを選ぶか、アプリを再インストールしてください</translation>
        </message>
        <message>
            <source>cannot record to {path}: there is no folder {parent}; make it first</source>
            <translation>{path} に録画できません：フォルダー {parent} がありません。先に作ってください</translation>
        </message>
        <message>
            <source>cannot record to {path}: {cause}</source>
            <translation>{path} に録画できません：{cause}</translation>
        </message>
        <message>
            <source>cannot remove the token {place}: {why}</source>
            <translation>トークン {place} を削除できません：{why}</translation>
        </message>
        <message>
            <source>cannot remove {path}: {error}; check the folder's permissions</source>
            <translation>{path} を削除できません：{error}。フォルダーの権限を確認してください</translation>
        </message>
        <message>
            <source>cannot say in {place} where the app listens: {why}</source>
            <translation>アプリの接続先を {place} に書けません：{why}</translation>
        </message>
        <message>
            <source>cannot use the file {path}: {cause}; check its name and its folder</source>
            <translation>ファイル {path} を使えません：{cause}。名前とフォルダーを確認してください</translation>
        </message>
        <message>
            <source>cannot use the file: {cause}; check its name and its folder</source>
            <translation>ファイルを使えません：{cause}。名前とフォルダーを確認してください</translation>
        </message>
        <message>
            <source>cannot use the folder {folder}: {cause}</source>
            <translation>フォルダー {folder} を使用できません: {cause}</translation>
        </message>
        <message>
            <source>cannot use the pictures of {path}: got {name}, {width} x {height}, which cannot be converted ({error}); export it again as H.264 in MP4</source>
            <translation>{path} の画像を使えません：{name}、{width} x {height} を変換できません（{error}）。H.264 の MP4 で書き出し直してください</translation>
        </message>
        <message>
            <source>cannot use {path} as a video: got an animated WebP, whose pictures cannot be decoded; convert it to MP4 or GIF</source>
            <translation>{path} を動画として使用できません。アニメーション WebP の画像はデコードできません。MP4 または GIF に変換してください</translation>
        </message>
        <message>
            <source>cannot use {path} as a video: got {what}, expected a video with pictures, such as H.264 in MP4</source>
            <translation>{path} を動画として使えません：{what} です。H.264 の MP4 など、映像のある動画が必要です</translation>
        </message>
        <message>
            <source>cannot write a picture to {path}: got suffix {suffix}, expected {suffixes}</source>
            <translation>{path} に画像を書き込めません：拡張子が {suffix} です。{suffixes} が必要です</translation>
        </message>
        <message>
            <source>cannot write the picture {path}: it is a folder, expected a file name</source>
            <translation>画像 {path} を書き込めません：フォルダーです。ファイル名が必要です</translation>
        </message>
        <message>
            <source>cannot write the picture {path}: {cause}</source>
            <translation>画像 {path} を書き込めません：{cause}</translation>
        </message>
        <message>
            <source>choose a disk that takes larger files, or make it shorter</source>
            <translation>より大きなファイルを扱えるディスクを選ぶか、短くしてください</translation>
        </message>
        <message>
            <source>choose another place</source>
            <translation>別の場所を選んでください</translation>
        </message>
        <message>
            <source>chroma green</source>
            <translation>クロマグリーン</translation>
        </message>
        <message>
            <source>close your mouth</source>
            <translation>口を閉じてください</translation>
        </message>
        <message>
            <source>compose</source>
            <translation>合成</translation>
        </message>
        <message>
            <source>config key {key}: got {got}, expected {expected}</source>
            <translation>設定キー{key}：{got}でしたが、{expected}が必要です</translation>
        </message>
        <message>
            <source>config key {prefix}{missing} is missing</source>
            <translation>設定キー{prefix}{missing}がありません</translation>
        </message>
        <message>
            <source>control from outside cannot listen on port {port}: {why}; choose another port, or 0 for any that is free</source>
            <translation>外部からの操作でポート {port} を使えません：{why}。別のポートか、空きを使う 0 を選んでください</translation>
        </message>
        <message>
            <source>control from outside cannot start: {why}</source>
            <translation>外部からの操作を開始できません：{why}</translation>
        </message>
        <message>
            <source>control from outside: got port {port}, expected 0 to 65535</source>
            <translation>外部からの操作：ポートが {port} です。0～65535 が必要です</translation>
        </message>
        <message>
            <source>crop</source>
            <translation>切り抜き</translation>
        </message>
        <message>
            <source>cut out</source>
            <translation>切り抜き合成</translation>
        </message>
        <message>
            <source>cutting the person out; the scene stays until then…</source>
            <translation>人物を切り抜いています。終わるまで現在のシーンのままです…</translation>
        </message>
        <message>
            <source>delay your microphone by {delay_ms} ms</source>
            <translation>マイクを {delay_ms} ms 遅らせてください</translation>
        </message>
        <message>
            <source>detect</source>
            <translation>検出</translation>
        </message>
        <message>
            <source>device: got {name}, but {lack}; use --device cpu (or auto), or mend that</source>
            <translation>デバイス：{name} が指定されましたが、{lack}。--device cpu（または auto）を使うか、修正してください</translation>
        </message>
        <message>
            <source>device: got {name}, expected auto, cpu, cuda, cuda:N, gpu, gpu:N or mps</source>
            <translation>デバイス：{name} が指定されましたが、auto、cpu、cuda、cuda:N、gpu、gpu:N、mps のいずれかが必要です</translation>
        </message>
        <message>
            <source>done</source>
            <translation>完了</translation>
        </message>
        <message>
            <source>dropped</source>
            <translation>破棄</translation>
        </message>
        <message>
            <source>dropped {percent:.0f} %</source>
            <translation>破棄 {percent:.0f}%</translation>
        </message>
        <message>
            <source>encode</source>
            <translation>符号化</translation>
        </message>
        <message>
            <source>everything is ready</source>
            <translation>すべて準備できました</translation>
        </message>
        <message>
            <source>face</source>
            <translation>顔</translation>
        </message>
        <message>
            <source>face lost: returning to rest</source>
            <translation>顔を見失いました：元の姿勢に戻ります</translation>
        </message>
        <message>
            <source>face lost: the last picture stays</source>
            <translation>顔を見失いました：最後の画像を保持します</translation>
        </message>
        <message>
            <source>fine detail</source>
            <translation>細部</translation>
        </message>
        <message>
            <source>getting ready</source>
            <translation>準備中</translation>
        </message>
        <message>
            <source>got 32 bits per channel, expected 8 or 16; convert it to JPEG or PNG</source>
            <translation>1 チャンネル 32 ビットです。8 か 16 が必要です。JPEG か PNG に変換してください</translation>
        </message>
        <message>
            <source>got Lab colours with a profile that cannot be used; convert it to JPEG or PNG</source>
            <translation>使用できないプロファイルの Lab カラーです。JPEG か PNG に変換してください</translation>
        </message>
        <message>
            <source>got PipeWire {version}, expected {oldest} or newer; update it</source>
            <translation>PipeWire {version} です。{oldest} 以降が必要です。更新してください</translation>
        </message>
        <message>
            <source>got a network address, and only a file of this machine can be used; download it first</source>
            <translation>ネットワークのアドレスです。このコンピューターのファイルだけが使えます。先にダウンロードしてください</translation>
        </message>
        <message>
            <source>got figures of format {evaluation}, expected 'mcnet-evaluation/2'</source>
            <translation>数値の形式が {evaluation} です。「mcnet-evaluation/2」が必要です</translation>
        </message>
        <message>
            <source>got only a private key to sign with: name the file of its certificates as well</source>
            <translation>署名用に秘密鍵だけが指定されました：証明書のファイルも指定してください</translation>
        </message>
        <message>
            <source>got only certificates to sign with: name the file of their private key as well</source>
            <translation>署名用に証明書だけが指定されました：秘密鍵のファイルも指定してください</translation>
        </message>
        <message>
            <source>got pictures of shape {shape}, expected (height, width, 3) of at least {least_px} pixels per side</source>
            <translation>画像の形が {shape} です。1 辺 {least_px} ピクセル以上の (高さ, 幅, 3) が必要です</translation>
        </message>
        <message>
            <source>got {got}, expected a list</source>
            <translation>{got} です。リストが必要です</translation>
        </message>
        <message>
            <source>ink</source>
            <translation>インク</translation>
        </message>
        <message>
            <source>install the app again</source>
            <translation>アプリを再インストールしてください</translation>
        </message>
        <message>
            <source>int8 with OpenVINO, else {precision}</source>
            <translation>OpenVINO では int8、それ以外は {precision}</translation>
        </message>
        <message>
            <source>it cannot be signed: {why}</source>
            <translation>署名できません：{why}</translation>
        </message>
        <message>
            <source>it has {frames} frames, which is as many as a motion file takes</source>
            <translation>{frames} フレームに達しました（モーションファイルの上限）</translation>
        </message>
        <message>
            <source>it is the fastest on x86-64 CPUs</source>
            <translation>x86-64 の CPU で最も速い</translation>
        </message>
        <message>
            <source>it is what computes on Apple GPUs</source>
            <translation>Apple の GPU で計算するもの</translation>
        </message>
        <message>
            <source>it is what computes on Intel GPUs</source>
            <translation>Intel の GPU で計算するもの</translation>
        </message>
        <message>
            <source>it opens, but gives no frames</source>
            <translation>開けますが、フレームが届きません</translation>
        </message>
        <message>
            <source>it was changed, moved or removed while it was being signed</source>
            <translation>署名中に変更、移動、または削除されました</translation>
        </message>
        <message>
            <source>it was ended</source>
            <translation>終了しました</translation>
        </message>
        <message>
            <source>it was removed meanwhile</source>
            <translation>途中で削除されました</translation>
        </message>
        <message>
            <source>its first {value:g} s are kept</source>
            <translation>最初の {value:g} 秒は残っています</translation>
        </message>
        <message>
            <source>its header is no JSON</source>
            <translation>ヘッダーが JSON ではありません</translation>
        </message>
        <message>
            <source>its linear jacobians are no {rows} rows of {columns} numbers, as {count} keypoints on the face mesh have them</source>
            <translation>線形ヤコビ行列が、顔メッシュ上のキーポイント{count}個に必要な、{columns}個の数値からなる{rows}行になっていません</translation>
        </message>
        <message>
            <source>its linear jacobians have {value}, expected finite numbers</source>
            <translation>線形ヤコビ行列に{value}がありますが、有限の数値が必要です</translation>
        </message>
        <message>
            <source>its process ended with {status}: out of memory, or a library crashed</source>
            <translation>プロセスが {status} で終了しました：メモリー不足か、ライブラリーの異常終了です</translation>
        </message>
        <message>
            <source>its statement would go to {path}, where another file is: move or rename that one</source>
            <translation>証明情報の保存先 {path} に別のファイルがあります。そのファイルを移動するか、名前を変更してください</translation>
        </message>
        <message>
            <source>key: got {key}, expected a letter, a digit, F1 to F24, Pause, ScrollLock, Print, Ins, Del, Home, End, PgUp, PgDown or Space, with Ctrl, Alt, Shift or Meta, such as Ctrl+Alt+0</source>
            <translation>キー：{key} です。文字、数字、F1～F24、Pause、ScrollLock、Print、Ins、Del、Home、End、PgUp、PgDown、Space のいずれかを、Ctrl、Alt、Shift、Meta と組み合わせてください（例：Ctrl+Alt+0）</translation>
        </message>
        <message>
            <source>key: {key} alone would be taken from whatever you write: choose it with Ctrl, Alt or Meta, or a key such as Pause or F9</source>
            <translation>キー：{key} だけでは文字入力に使えなくなります：Ctrl、Alt、Meta と組み合わせるか、Pause や F9 のようなキーを選んでください</translation>
        </message>
        <message>
            <source>key: {key} is another program's already, the desktop's maybe: choose another one</source>
            <translation>キー：{key} はすでに別のプログラム（デスクトップかもしれません）が使っています：別のキーを選んでください</translation>
        </message>
        <message>
            <source>key: {key} is another program's already: choose another one</source>
            <translation>キー：{key} はすでに別のプログラムが使っています：別のキーを選んでください</translation>
        </message>
        <message>
            <source>key: {key} is not on this keyboard: choose another one, such as Ctrl+Alt+0</source>
            <translation>キー：{key} はこのキーボードにありません：Ctrl+Alt+0 など別のキーを選んでください</translation>
        </message>
        <message>
            <source>lids</source>
            <comment>measure</comment>
            <translation>まぶた</translation>
        </message>
        <message>
            <source>light grey</source>
            <translation>明るい灰色</translation>
        </message>
        <message>
            <source>live</source>
            <translation>ライブ中</translation>
        </message>
        <message>
            <source>loading the model…</source>
            <translation>モデルを読み込み中…</translation>
        </message>
        <message>
            <source>look as the portrait does</source>
            <translation>ポートレートと同じ表情で</translation>
        </message>
        <message>
            <source>look straight into the camera</source>
            <translation>カメラをまっすぐ見てください</translation>
        </message>
        <message>
            <source>looking at the model…</source>
            <translation>モデルを確認中…</translation>
        </message>
        <message>
            <source>macOS gives a key to one app only with the right to watch all keys: have the Shortcuts app run mcnet-avatar ctl slate by a key</source>
            <translation>macOS では、すべてのキーを監視する権利がないとキーを割り当てられません：「ショートカット」アプリのキーで mcnet-avatar ctl slate を実行してください</translation>
        </message>
        <message>
            <source>make room on the disk</source>
            <translation>ディスクの空きを作ってください</translation>
        </message>
        <message>
            <source>make room: what you may use of the disk is used up</source>
            <translation>空きを作ってください。割り当てられたディスク容量を使い切っています</translation>
        </message>
        <message>
            <source>matte</source>
            <translation>マット</translation>
        </message>
        <message>
            <source>measuring</source>
            <translation>測定中</translation>
        </message>
        <message>
            <source>measuring…</source>
            <translation>測定中…</translation>
        </message>
        <message>
            <source>model</source>
            <translation>モデル</translation>
        </message>
        <message>
            <source>model to sinks</source>
            <translation>モデルから出力</translation>
        </message>
        <message>
            <source>model {model} gave NaN for the keypoints of this frame: use precision fp32 or another model; the frame is not shown</source>
            <translation>モデル {model} がこのフレームのキーポイントに NaN を出しました。精度 fp32 か別のモデルを使ってください。このフレームは表示しません</translation>
        </message>
        <message>
            <source>model {model} gave NaN for the {what}: use precision fp32 or another model</source>
            <translation>モデル {model} が NaN を出しました（{what}）。精度 fp32 か別のモデルを使ってください</translation>
        </message>
        <message>
            <source>model {model} gave NaN or infinite values for this frame, expected colours in [0, 1]: use precision fp32 or another model; the frame is not shown</source>
            <translation>モデル {model} がこのフレームに NaN か無限大を出しました。[0, 1] の色が必要です。精度 fp32 か別のモデルを使ってください。このフレームは表示しません</translation>
        </message>
        <message>
            <source>model {name}</source>
            <translation>モデル {name}</translation>
        </message>
        <message>
            <source>mouth</source>
            <comment>measure</comment>
            <translation>口</translation>
        </message>
        <message>
            <source>mps is for Apple's GPUs, and this is {system}</source>
            <translation>mps は Apple の GPU 用です。これは {system} です</translation>
        </message>
        <message>
            <source>ms</source>
            <translation>ms</translation>
        </message>
        <message>
            <source>name of the PipeWire camera: got {name}, expected 1 to {longest} printable characters</source>
            <translation>PipeWire カメラの名前：{name} です。印字可能な 1～{longest} 文字が必要です</translation>
        </message>
        <message>
            <source>needs a hand</source>
            <translation>要対応</translation>
        </message>
        <message>
            <source>network camera {address}</source>
            <translation>ネットワークカメラ {address}</translation>
        </message>
        <message>
            <source>neutral face, any direction</source>
            <translation>自然な顔で、向きは自由</translation>
        </message>
        <message>
            <source>no camera at {path}: got nothing there; {advice}</source>
            <translation>{path} にカメラがありません：何もありません。{advice}</translation>
        </message>
        <message>
            <source>no camera picture</source>
            <translation>カメラ映像なし</translation>
        </message>
        <message>
            <source>no camera was found: plug one in, or use a video file</source>
            <translation>カメラが見つかりません：接続するか、動画ファイルを使ってください</translation>
        </message>
        <message>
            <source>no camera yet: choose one under Camera</source>
            <translation>カメラ未選択：「カメラ」で選んでください</translation>
        </message>
        <message>
            <source>no configuration is named {name}; the named ones are {named}</source>
            <translation>{name}という名前の構成はありません。あるのは{named}です</translation>
        </message>
        <message>
            <source>no face in {name}: got none that looks towards the camera; take another picture, larger or from the front, or turn this one upright</source>
            <translation>{name} に顔がありません：カメラの方を向いた顔がありません。もっと大きいか正面の別の画像を使うか、この画像を正しい向きに回してください</translation>
        </message>
        <message>
            <source>no face is shown</source>
            <translation>顔は表示されません</translation>
        </message>
        <message>
            <source>no face was found in it</source>
            <translation>顔が見つかりません</translation>
        </message>
        <message>
            <source>no face was found in this portrait</source>
            <translation>このポートレートに顔が見つかりません</translation>
        </message>
        <message>
            <source>no face was seen while the motion was recorded: there is no file {path}</source>
            <translation>動きの記録中に顔が見えませんでした：ファイル {path} はありません</translation>
        </message>
        <message>
            <source>no face was seen, so that nothing was calibrated: look into the camera, and calibrate again</source>
            <translation>顔が見えなかったため、何もキャリブレーションされませんでした：カメラを見て、もう一度キャリブレーションしてください</translation>
        </message>
        <message>
            <source>no face: the avatar rests</source>
            <translation>顔なし：アバターは休んでいます</translation>
        </message>
        <message>
            <source>no file is chosen; choose a picture or a video</source>
            <translation>ファイルが選ばれていません。画像か動画を選んでください</translation>
        </message>
        <message>
            <source>no frame of {path} can be decoded: it is damaged or cut short; export it again</source>
            <translation>{path} のフレームを 1 つもデコードできません：破損しているか途中で切れています。書き出し直してください</translation>
        </message>
        <message>
            <source>no frame of {path} can be decoded; choose another video</source>
            <translation>{path} のフレームをデコードできません。別の動画を選んでください</translation>
        </message>
        <message>
            <source>no model {name_or_path}: got neither a file, a folder nor a bundled name, expected a .safetensors or .pth.tar file or a model's folder (check the path) or one of: {bundled}</source>
            <translation>モデル {name_or_path} がありません：ファイル、フォルダー、付属の名前のいずれでもありません。.safetensors か .pth.tar のファイル、モデルのフォルダー（パスを確認してください）、または次のいずれかが必要です：{bundled}</translation>
        </message>
        <message>
            <source>no motion file {path}: there is no such file</source>
            <translation>モーションファイル {path} がありません：そのファイルはありません</translation>
        </message>
        <message>
            <source>no permission for {path} ({name}): run `sudo usermod -aG video $USER`, then log out and in again</source>
            <translation>{path}（{name}）の権限がありません。`sudo usermod -aG video $USER` を実行し、ログアウトしてからログインし直してください</translation>
        </message>
        <message>
            <source>no person is told apart from the background</source>
            <translation>背景と区別できる人物が見つかりません</translation>
        </message>
        <message>
            <source>no picture at {path}: check the path</source>
            <translation>{path} に画像がありません。パスを確認してください</translation>
        </message>
        <message>
            <source>no picture track</source>
            <translation>映像トラックがありません</translation>
        </message>
        <message>
            <source>no portrait can be used: add another one</source>
            <translation>使えるポートレートがありません：別のものを追加してください</translation>
        </message>
        <message>
            <source>no portrait yet: choose one, or add yours</source>
            <translation>ポートレート未選択：選ぶか、自分の画像を追加してください</translation>
        </message>
        <message>
            <source>no portrait {text}: got neither a file nor a known name ({names}); check the path or the name</source>
            <translation>ポートレート {text} がありません：ファイルでも既知の名前（{names}）でもありません。パスか名前を確認してください</translation>
        </message>
        <message>
            <source>no process could be started for it ({error})</source>
            <translation>そのためのプロセスを起動できませんでした（{error}）</translation>
        </message>
        <message>
            <source>no video at {path}: check the path</source>
            <translation>{path} に動画がありません。パスを確認してください</translation>
        </message>
        <message>
            <source>none</source>
            <translation>なし</translation>
        </message>
        <message>
            <source>none yet</source>
            <translation>まだありません</translation>
        </message>
        <message>
            <source>not calibrated yet: look into the camera, or press Calibrate</source>
            <translation>未調整：カメラを見るか、「調整」を押してください</translation>
        </message>
        <message>
            <source>not needed in absolute motion</source>
            <translation>絶対モードでは不要</translation>
        </message>
        <message>
            <source>not stated</source>
            <translation>記載なし</translation>
        </message>
        <message>
            <source>nothing</source>
            <translation>何もない</translation>
        </message>
        <message>
            <source>nothing here runs model {model}: {reasons}; is another program in the way?</source>
            <translation>ここではモデル {model} を動かせません：{reasons}。ほかのプログラムが妨げていませんか</translation>
        </message>
        <message>
            <source>nothing is there</source>
            <translation>何もありません</translation>
        </message>
        <message>
            <source>nothing of it could be kept</source>
            <translation>何も残せませんでした</translation>
        </message>
        <message>
            <source>nothing yet</source>
            <translation>まだありません</translation>
        </message>
        <message>
            <source>of unknown version</source>
            <translation>バージョン不明</translation>
        </message>
        <message>
            <source>on Debian or Ubuntu: apt-get install libpulse0</source>
            <translation>Debian・Ubuntu では：apt-get install libpulse0</translation>
        </message>
        <message>
            <source>only sound</source>
            <translation>音声のみ</translation>
        </message>
        <message>
            <source>only you see this</source>
            <translation>あなたにだけ見えます</translation>
        </message>
        <message>
            <source>open your eyes</source>
            <translation>目を開けてください</translation>
        </message>
        <message>
            <source>open your mouth as in the portrait</source>
            <translation>ポートレートと同じように口を開けてください</translation>
        </message>
        <message>
            <source>openvino cannot be used: {failure}</source>
            <translation>openvino を使えません：{failure}</translation>
        </message>
        <message>
            <source>output</source>
            <translation>出力</translation>
        </message>
        <message>
            <source>part of the face is cut off</source>
            <translation>顔の一部が切れています</translation>
        </message>
        <message>
            <source>pictures in a codec that cannot be decoded</source>
            <translation>デコードできないコーデックの映像</translation>
        </message>
        <message>
            <source>pine</source>
            <translation>松</translation>
        </message>
        <message>
            <source>places: got {given} of shape {got}, expected {pictures} of shape {shape}, finite numbers</source>
            <translation>places：形状{got}が{given}個でしたが、形状{shape}の有限な数が{pictures}個必要です</translation>
        </message>
        <message>
            <source>plug it in, or choose another: {there}</source>
            <translation>接続するか、別のカメラを選んでください：{there}</translation>
        </message>
        <message>
            <source>plug one in; no camera is there at all</source>
            <translation>接続してください。カメラが 1 台もありません</translation>
        </message>
        <message>
            <source>portrait</source>
            <translation>ポートレート</translation>
        </message>
        <message>
            <source>portrait angle_deg: got {angle_deg}, expected a number</source>
            <translation>ポートレート angle_deg：{angle_deg} です。数値が必要です</translation>
        </message>
        <message>
            <source>portrait box: got {box}, expected three numbers, the last of them above 0</source>
            <translation>ポートレート box：{box} です。3 つの数値が必要で、最後の値は 0 より大きくなければなりません</translation>
        </message>
        <message>
            <source>precision: got 'int8', but {lack}</source>
            <translation>精度：「int8」が指定されましたが、{lack}</translation>
        </message>
        <message>
            <source>precision: got bf16 on {device}, expected fp32 or fp16 there</source>
            <translation>精度：{device} で bf16 が指定されましたが、fp32 か fp16 が必要です</translation>
        </message>
        <message>
            <source>precision: got bf16 on {device}, expected fp32, fp16 or int8 there</source>
            <translation>精度: {device} で bf16 が指定されましたが、そこでは fp32、fp16、int8 のいずれかが必要です</translation>
        </message>
        <message>
            <source>precision: got fp16 on the CPU, expected fp32, bf16 or int8 there (fp16 is for GPUs)</source>
            <translation>精度: CPU で fp16 が指定されましたが、そこでは fp32、bf16、int8 のいずれかが必要です (fp16 は GPU 用です)</translation>
        </message>
        <message>
            <source>precision: got {precision}, expected one of {allowed}</source>
            <translation>精度：{precision} が指定されましたが、{allowed} のいずれかが必要です</translation>
        </message>
        <message>
            <source>preset: got {name} for a name, expected 1 to {most} characters</source>
            <translation>プリセット：名前が {name} です。1～{most} 文字が必要です</translation>
        </message>
        <message>
            <source>preset: got {name}, expected one of your own: {own}</source>
            <translation>プリセット：{name} です。ご自身のもののいずれかが必要です：{own}</translation>
        </message>
        <message>
            <source>preset: got {name}, expected one of {names}</source>
            <translation>プリセット：{name} です。{names} のいずれかが必要です</translation>
        </message>
        <message>
            <source>preset: there are {count} already, expected no more: delete one first</source>
            <translation>プリセット：すでに {count} 個あり、これ以上は増やせません：先に 1 つ削除してください</translation>
        </message>
        <message>
            <source>preset: {name} is there already: choose another name, or delete it first</source>
            <translation>プリセット：{name} はすでにあります：別の名前にするか、先に削除してください</translation>
        </message>
        <message>
            <source>preset: {name} stays as it is: choose another name</source>
            <translation>プリセット：{name} は変更できません：別の名前を選んでください</translation>
        </message>
        <message>
            <source>presets</source>
            <translation>プリセット</translation>
        </message>
        <message>
            <source>process {name}</source>
            <translation>プロセス {name}</translation>
        </message>
        <message>
            <source>reading the portrait…</source>
            <translation>ポートレートを読み込み中…</translation>
        </message>
        <message>
            <source>recorded frames are the fastest on GPUs</source>
            <translation>GPU では記録したフレームが最も速い</translation>
        </message>
        <message>
            <source>recording {path}: got a picture of {got}, expected {shape}</source>
            <translation>録画 {path}：画像が {got} です。{shape} が必要です</translation>
        </message>
        <message>
            <source>render</source>
            <translation>描画</translation>
        </message>
        <message>
            <source>retouch</source>
            <translation>補筆</translation>
        </message>
        <message>
            <source>row {number}: got {got}, expected a portrait with its key</source>
            <translation>{number} 行目：{got} です。キー（key）のあるポートレートが必要です</translation>
        </message>
        <message>
            <source>row {number}: there is no picture {got}</source>
            <translation>{number} 行目：画像 {got} がありません</translation>
        </message>
        <message>
            <source>row {number}: {error}</source>
            <translation>{number} 行目：{error}</translation>
        </message>
        <message>
            <source>runs on</source>
            <translation>実行先</translation>
        </message>
        <message>
            <source>see that its app is in front, the phone awake, and both in the same network</source>
            <translation>アプリが前面にあり、スマートフォンがスリープしておらず、同じネットワークにあるか確認してください</translation>
        </message>
        <message>
            <source>see whether the disk is slow</source>
            <translation>ディスクが遅くないか確認してください</translation>
        </message>
        <message>
            <source>send</source>
            <translation>送信</translation>
        </message>
        <message>
            <source>setting</source>
            <translation>設定</translation>
        </message>
        <message>
            <source>setting background_colour: got {colour}, expected #rrggbb</source>
            <translation>設定 background_colour：{colour} です。#rrggbb が必要です</translation>
        </message>
        <message>
            <source>setting inspector_views: got {views}, expected {least_views} to {most_views} different ones</source>
            <translation>設定 inspector_views：{views} です。異なる {least_views}～{most_views} 個が必要です</translation>
        </message>
        <message>
            <source>setting slate_text: got {got} characters, expected at most {longest_slate_text}</source>
            <translation>設定 slate_text：{got} 文字です。{longest_slate_text} 文字以内にしてください</translation>
        </message>
        <message>
            <source>setting slate_text: the slate cannot show {characters}; leave that out, or have a picture that shows it as slate_image</source>
            <translation>設定 slate_text：待機画面には {characters} を表示できません。取り除くか、それを描いた画像を slate_image に指定してください</translation>
        </message>
        <message>
            <source>setting {name}: got {value}, expected an even number</source>
            <translation>設定 {name}：{value} です。偶数が必要です</translation>
        </message>
        <message>
            <source>setting {name}: got {value}, expected {low} to {high}</source>
            <translation>設定 {name}：{value} です。{low}～{high} が必要です</translation>
        </message>
        <message>
            <source>settings</source>
            <translation>設定</translation>
        </message>
        <message>
            <source>several people are in it; the largest face is used</source>
            <translation>複数の人が写っています。最も大きい顔を使います</translation>
        </message>
        <message>
            <source>show your face to the camera</source>
            <translation>カメラに顔を見せてください</translation>
        </message>
        <message>
            <source>signing needs room for a second copy: got {free_mb:.0f} MB, expected {needed_mb:.0f} MB; make room on the disk</source>
            <translation>署名には 2 つ目のコピーの空きが必要です：空きは {free_mb:.0f} MB、必要なのは {needed_mb:.0f} MB です。ディスクの空きを作ってください</translation>
        </message>
        <message>
            <source>skin, teeth and shut lids cannot be drawn for this portrait: {error}</source>
            <translation>このポートレートの肌・歯・閉じたまぶたを描けません：{error}</translation>
        </message>
        <message>
            <source>slate grey</source>
            <translation>スレートグレー</translation>
        </message>
        <message>
            <source>slate until the camera is back</source>
            <translation>カメラが戻るまで待機画面</translation>
        </message>
        <message>
            <source>slate until your face is back</source>
            <translation>顔が戻るまで待機画面</translation>
        </message>
        <message>
            <source>some of {sizes_px}, in rising order</source>
            <translation>{sizes_px}のいくつか（昇順）</translation>
        </message>
        <message>
            <source>something else or a damaged file</source>
            <translation>別のもの、または破損したファイル</translation>
        </message>
        <message>
            <source>starting…</source>
            <translation>起動中…</translation>
        </message>
        <message>
            <source>surroundings</source>
            <translation>周囲</translation>
        </message>
        <message>
            <source>the Apple GPU</source>
            <translation>Apple の GPU</translation>
        </message>
        <message>
            <source>the GPU is not used: {failure}</source>
            <translation>GPU は使われません：{failure}</translation>
        </message>
        <message>
            <source>the GPU that torch found</source>
            <translation>torch が見つけた GPU</translation>
        </message>
        <message>
            <source>the PipeWire camera cannot be made: {error}</source>
            <translation>PipeWire カメラを作れません：{error}</translation>
        </message>
        <message>
            <source>the PipeWire camera cannot be opened: no daemon listens at {socket} ({error}); start it with `systemctl --user start pipewire wireplumber`, or see `mcnet-avatar --doctor`</source>
            <translation>PipeWire カメラを開けません：{socket} のサービスが応答しません（{error}）。`systemctl --user start pipewire wireplumber` で起動するか、`mcnet-avatar --doctor` をご覧ください</translation>
        </message>
        <message>
            <source>the PipeWire camera is not open; open it first</source>
            <translation>PipeWire カメラが開かれていません。先に開いてください</translation>
        </message>
        <message>
            <source>the PipeWire camera is open already ({detail}); close it first</source>
            <translation>PipeWire カメラはすでに開かれています（{detail}）。先に閉じてください</translation>
        </message>
        <message>
            <source>the X server does not answer for a key: {failure}</source>
            <translation>X サーバーがキーの要求に応答しません：{failure}</translation>
        </message>
        <message>
            <source>the X server gives the key to this app</source>
            <translation>X サーバーがこのアプリにキーを渡します</translation>
        </message>
        <message>
            <source>the X server has ended: {failure}</source>
            <translation>X サーバーが終了しました：{failure}</translation>
        </message>
        <message>
            <source>the authors' released weights are not bundled: download their checkpoint and give its path (.pth.tar)</source>
            <translation>著者が公開した重みは付属していません。チェックポイントをダウンロードして、そのパス（.pth.tar）を指定してください</translation>
        </message>
        <message>
            <source>the background is to be a picture, but none is chosen: choose a file, or another background</source>
            <translation>背景に画像を使う設定ですが、選ばれていません。ファイルか別の背景を選んでください</translation>
        </message>
        <message>
            <source>the background picture</source>
            <translation>背景の画像</translation>
        </message>
        <message>
            <source>the background video cannot be used: {error}</source>
            <translation>背景の動画を使えません：{error}</translation>
        </message>
        <message>
            <source>the bundle has no torch (an installation by pip has)</source>
            <translation>バンドル版には torch が含まれていません (pip でのインストールには含まれます)</translation>
        </message>
        <message>
            <source>the calibration is under way</source>
            <translation>調整中</translation>
        </message>
        <message>
            <source>the call sees the slate</source>
            <translation>通話には待機画面が見えています</translation>
        </message>
        <message>
            <source>the camera cannot be used: choose another one</source>
            <translation>カメラを使えません：別のカメラを選んでください</translation>
        </message>
        <message>
            <source>the camera gives no frames: plug it in again, or choose another one</source>
            <translation>カメラから映像が届きません：接続し直すか、別のカメラを選んでください</translation>
        </message>
        <message>
            <source>the camera is being opened</source>
            <translation>カメラを開いています</translation>
        </message>
        <message>
            <source>the camera's frames have another size now</source>
            <translation>カメラのフレームの大きさが変わりました</translation>
        </message>
        <message>
            <source>the certificate in {path} is valid from {begin} to {end} and not now: get a new one</source>
            <translation>{path} の証明書の有効期間は {begin}～{end} で、現在は無効です：新しいものを入手してください</translation>
        </message>
        <message>
            <source>the desktop did not give the key: allow it in its settings for shortcuts</source>
            <translation>デスクトップがキーを渡しませんでした：ショートカットの設定で許可してください</translation>
        </message>
        <message>
            <source>the desktop has taken the key back</source>
            <translation>デスクトップがキーを取り消しました</translation>
        </message>
        <message>
            <source>the desktop is asked for the key, and may ask you</source>
            <translation>デスクトップにキーを要求しています。確認を求められることがあります</translation>
        </message>
        <message>
            <source>the desktop's portal does not answer</source>
            <translation>デスクトップのポータルが応答しません</translation>
        </message>
        <message>
            <source>the desktop's portal has refused the key: bind mcnet-avatar ctl slate there</source>
            <translation>デスクトップのポータルがキーを拒否しました：そこで mcnet-avatar ctl slate を割り当ててください</translation>
        </message>
        <message>
            <source>the engine knows those of NVIDIA, Intel and Apple</source>
            <translation>エンジンが対応しているのは NVIDIA、Intel、Apple の GPU です</translation>
        </message>
        <message>
            <source>the eyes are hardly open</source>
            <translation>目がほとんど開いていません</translation>
        </message>
        <message>
            <source>the face is close to the picture's border</source>
            <translation>顔が画像の端に近すぎます</translation>
        </message>
        <message>
            <source>the face is dark: take a picture in more light</source>
            <translation>顔が暗いです。もっと明るい場所で撮影してください</translation>
        </message>
        <message>
            <source>the face is over-exposed: take a picture in less light</source>
            <translation>顔が白飛びしています。もっと暗い場所で撮影してください</translation>
        </message>
        <message>
            <source>the face is small: use a larger picture</source>
            <translation>顔が小さいです。より大きい画像を使ってください</translation>
        </message>
        <message>
            <source>the figures lack {error}, or have something else in its place: expected what `mcnet-train evaluate --json` wrote</source>
            <translation>数値に {error} がないか、別のものがあります。`mcnet-train evaluate --json` の出力が必要です</translation>
        </message>
        <message>
            <source>the fine detail of this portrait cannot be shown: {error}</source>
            <translation>このポートレートの細部を表示できません：{error}</translation>
        </message>
        <message>
            <source>the folder {path} holds no picture: expected files such as PNG, JPEG or HEIC</source>
            <translation>フォルダー {path} に画像がありません。PNG、JPEG、HEIC などのファイルが必要です</translation>
        </message>
        <message>
            <source>the head is tilted</source>
            <translation>頭が傾いています</translation>
        </message>
        <message>
            <source>the head is turned to the side</source>
            <translation>頭が横を向いています</translation>
        </message>
        <message>
            <source>the key was lost {n} times in a row ({error}): choose it again</source>
            <translation>キーが続けて{n}回失われました（{error}）：選び直してください</translation>
        </message>
        <message>
            <source>the key was not given in the desktop's dialog: choose it again to be asked</source>
            <translation>デスクトップのダイアログでキーが許可されませんでした：もう一度選ぶと再び確認されます</translation>
        </message>
        <message>
            <source>the microphone fails: {error}</source>
            <translation>マイクに障害があります：{error}</translation>
        </message>
        <message>
            <source>the microphone gives no sound: plug it in again, or choose another one</source>
            <translation>マイクから音が届きません：接続し直すか、別のマイクを選んでください</translation>
        </message>
        <message>
            <source>the microphone is not there: plug it in, or choose another one</source>
            <translation>マイクがありません：接続するか、別のマイクを選んでください</translation>
        </message>
        <message>
            <source>the microphone {description} cannot be opened ({name}): close what else uses it, or choose another one</source>
            <translation>マイク {description} を開けません（{name}）：使用中のアプリを閉じるか、別のマイクを選んでください</translation>
        </message>
        <message>
            <source>the microphone {name} gives no sound any more: plug it in again, close what else uses it, or choose another one</source>
            <translation>マイク {name} から音が届かなくなりました：接続し直すか、使用中のアプリを閉じるか、別のマイクを選んでください</translation>
        </message>
        <message>
            <source>the microphone {name} gives no sound: plug it in again, or choose another one</source>
            <translation>マイク {name} から音が届きません：接続し直すか、別のマイクを選んでください</translation>
        </message>
        <message>
            <source>the model</source>
            <translation>モデル</translation>
        </message>
        <message>
            <source>the model cannot be loaded: {reason}</source>
            <translation>モデルを読み込めません：{reason}</translation>
        </message>
        <message>
            <source>the model gives no pictures: wait, or press Start again</source>
            <translation>モデルから画像が届きません：待つか、「再開」を押してください</translation>
        </message>
        <message>
            <source>the model has given no picture for {seconds:g} s: wait, or start again</source>
            <translation>モデルから {seconds:g} 秒間画像が届いていません：待つか、再開してください</translation>
        </message>
        <message>
            <source>the model is loading</source>
            <translation>モデルを読み込み中</translation>
        </message>
        <message>
            <source>the mouth is open: teeth and lips will stretch</source>
            <translation>口が開いています：歯と唇が伸びて見えます</translation>
        </message>
        <message>
            <source>the network {path} is not the bundled one: got SHA-256 {found}..., expected {expected}...; reinstall the package</source>
            <translation>ネットワーク {path} が付属のものではありません：SHA-256 は {found}...、正しくは {expected}... です。パッケージを再インストールしてください</translation>
        </message>
        <message>
            <source>the old file could not be moved ({error})</source>
            <translation>古いファイルを移動できませんでした（{error}）</translation>
        </message>
        <message>
            <source>the old file is kept as {aside}</source>
            <translation>古いファイルは {aside} として残しました</translation>
        </message>
        <message>
            <source>the output has failed: {reason}</source>
            <translation>出力に障害が起きました：{reason}</translation>
        </message>
        <message>
            <source>the package c2pa-python cannot be used ({error}); install the app again, or switch Content Credentials off</source>
            <translation>パッケージ c2pa-python を使えません（{error}）。アプリを再インストールするか、コンテンツクレデンシャルをオフにしてください</translation>
        </message>
        <message>
            <source>the package cryptography cannot be used ({error}); install the app again</source>
            <translation>パッケージ cryptography を使えません（{error}）。アプリを再インストールしてください</translation>
        </message>
        <message>
            <source>the package {module} is missing in the bundle (install the app again)</source>
            <translation>バンドル版にパッケージ {module} がありません (アプリを再インストールしてください)</translation>
        </message>
        <message>
            <source>the package {module} is not installed ({command})</source>
            <translation>パッケージ {module} がインストールされていません ({command})</translation>
        </message>
        <message>
            <source>the person cannot be cut out of this portrait: {error}</source>
            <translation>このポートレートから人物を切り抜けません：{error}</translation>
        </message>
        <message>
            <source>the picture is soft</source>
            <translation>画像がぼやけています</translation>
        </message>
        <message>
            <source>the picture {path} is too large: got {width} x {height}, expected at most {millions} million pixels; make it smaller</source>
            <translation>画像 {path} は大きすぎます：{width} x {height}、上限は {millions} 百万ピクセルです。小さくしてください</translation>
        </message>
        <message>
            <source>the picture {path} is too small: got {width} x {height}, expected at least {least_px} pixels on each side; use a larger one</source>
            <translation>画像 {path} は小さすぎます：{width} x {height}、1 辺 {least_px} ピクセル以上が必要です。より大きいものを使ってください</translation>
        </message>
        <message>
            <source>the pictures of {path} differ in size: got {own_width} x {own_height} in {name}, expected {width} x {height} as in {first}</source>
            <translation>{path} の画像の大きさが揃っていません：{name} は {own_width} x {own_height}、{first} と同じ {width} x {height} が必要です</translation>
        </message>
        <message>
            <source>the portrait is being prepared</source>
            <translation>ポートレートを準備中</translation>
        </message>
        <message>
            <source>the private key {key} is not that of the first certificate in {certificates}: give the pair that belongs together, the signer's certificate first</source>
            <translation>秘密鍵 {key} が {certificates} の最初の証明書と一致しません：署名者の証明書を先頭に、対応する組を指定してください</translation>
        </message>
        <message>
            <source>the private key {path} has a passphrase, and nobody is there to type it: expected one without</source>
            <translation>秘密鍵 {path} にパスフレーズがあり、入力する人がいません：パスフレーズのないものが必要です</translation>
        </message>
        <message>
            <source>the private key {path} is of a kind that C2PA does not take: expected an elliptic curve (P-256, P-384 or P-521), Ed25519, or RSA of at least {bits} bits</source>
            <translation>秘密鍵 {path} は C2PA が受け付けない種類です：楕円曲線（P-256、P-384、P-521）、Ed25519、または {bits} ビット以上の RSA が必要です</translation>
        </message>
        <message>
            <source>the process that looks inside the network has ended, perhaps for want of memory; close the view and open it again</source>
            <translation>ネットワーク内部を表示するプロセスが終了しました。メモリー不足かもしれません。表示を閉じて開き直してください</translation>
        </message>
        <message>
            <source>the recording is not open; open it first</source>
            <translation>録画が開かれていません。先に開いてください</translation>
        </message>
        <message>
            <source>the recording {detail} is going on already; stop it first</source>
            <translation>録画 {detail} は進行中です。先に停止してください</translation>
        </message>
        <message>
            <source>the recording {path} cannot go on: {cause}; {kept}</source>
            <translation>録画 {path} を続けられません：{cause}。{kept}</translation>
        </message>
        <message>
            <source>the recording {path} failed: {reason}; {kept}</source>
            <translation>録画 {path} に失敗しました：{reason}。{kept}</translation>
        </message>
        <message>
            <source>the session's message bus does not answer: {error}</source>
            <translation>セッションのメッセージバスが応答しません：{error}</translation>
        </message>
        <message>
            <source>the session's message bus has ended: {error}</source>
            <translation>セッションのメッセージバスが終了しました：{error}</translation>
        </message>
        <message>
            <source>the settings ask for detected keypoints, and this needs measured ones</source>
            <translation>設定では検出したキーポイントを使いますが、測定したものが必要です</translation>
        </message>
        <message>
            <source>the signed copy does not hold when it is read back ({problems}), so that it was not kept</source>
            <translation>署名したコピーが読み直しの検証に通らないため（{problems}）、残しませんでした</translation>
        </message>
        <message>
            <source>the signed copy does not show the same pictures, so that it was not kept</source>
            <translation>署名したコピーの画像が同じでないため、残しませんでした</translation>
        </message>
        <message>
            <source>the signed copy says something else, so that it was not kept</source>
            <translation>署名したコピーの内容が異なるため、残しませんでした</translation>
        </message>
        <message>
            <source>the slate's picture</source>
            <translation>待機画面の画像</translation>
        </message>
        <message>
            <source>the system forbids the camera: allow it in System Settings, Privacy</source>
            <translation>システムがカメラを禁止しています：システム設定の「プライバシー」で許可してください</translation>
        </message>
        <message>
            <source>the system's privacy settings keep the microphone from this app: allow it there</source>
            <translation>システムのプライバシー設定により、このアプリはマイクを使えません：そこで許可してください</translation>
        </message>
        <message>
            <source>the system's sound cannot be used: what asks for it has crashed; start it again</source>
            <translation>システムの音声を使えません：問い合わせ先が異常終了しました。起動し直してください</translation>
        </message>
        <message>
            <source>the system's sound did not answer within {seconds:g} s: start it again</source>
            <translation>システムの音声が {seconds:g} 秒以内に応答しませんでした：起動し直してください</translation>
        </message>
        <message>
            <source>the video {path} is too large: got {width} x {height}, expected at most {millions} million pixels; make it smaller</source>
            <translation>動画 {path} は大きすぎます。{width} x {height} ですが、最大 {millions} 百万画素です。小さくしてください</translation>
        </message>
        <message>
            <source>the view into the network is the plain network's, which is torch's, and {lack}</source>
            <translation>内部の表示には torch の基本ネットワークが必要ですが、{lack}</translation>
        </message>
        <message>
            <source>the view into the network was closed; open it again</source>
            <translation>内部の表示は閉じられました。開き直してください</translation>
        </message>
        <message>
            <source>the virtual camera cannot be opened: see the advice below its switch</source>
            <translation>仮想カメラを開けません：スイッチの下の説明をご覧ください</translation>
        </message>
        <message>
            <source>the virtual camera cannot be opened: {said}; close programs that may write to it, and try again</source>
            <translation>仮想カメラを開けません：{said}。書き込む可能性のあるプログラムを閉じて、やり直してください</translation>
        </message>
        <message>
            <source>the virtual camera cannot be used: pyvirtualcam is not there ({error}); install it with `pip install pyvirtualcam`</source>
            <translation>仮想カメラを使えません：pyvirtualcam がありません（{error}）。`pip install pyvirtualcam` でインストールしてください</translation>
        </message>
        <message>
            <source>the virtual camera is being opened</source>
            <translation>仮想カメラを開いています</translation>
        </message>
        <message>
            <source>the virtual camera is being opened again</source>
            <translation>仮想カメラを開き直しています</translation>
        </message>
        <message>
            <source>the virtual camera is not open; open it first</source>
            <translation>仮想カメラが開かれていません。先に開いてください</translation>
        </message>
        <message>
            <source>the virtual camera is off: switch it on for a call</source>
            <translation>仮想カメラはオフです：通話のためにオンにしてください</translation>
        </message>
        <message>
            <source>the virtual camera is open already ({detail}); close it first</source>
            <translation>仮想カメラはすでに開かれています（{detail}）。先に閉じてください</translation>
        </message>
        <message>
            <source>the virtual camera takes no pictures any more: switch it on again</source>
            <translation>仮想カメラが画像を受け取らなくなりました：もう一度オンにしてください</translation>
        </message>
        <message>
            <source>the virtual camera {detail} could not be closed: {error}</source>
            <translation>仮想カメラ {detail} を閉じられませんでした：{error}</translation>
        </message>
        <message>
            <source>the virtual camera {detail} takes no pictures any more: {error}; open it again</source>
            <translation>仮想カメラ {detail} が画像を受け取らなくなりました：{error}。開き直してください</translation>
        </message>
        <message>
            <source>the {stage} has failed: {reason}</source>
            <translation>アプリの一部（{stage}）に障害が起きました：{reason}</translation>
        </message>
        <message>
            <source>there is no GPU {index}: torch finds {device_count}</source>
            <translation>GPU {index} はありません：torch が見つけたのは {device_count} 個です</translation>
        </message>
        <message>
            <source>there is no Intel GPU {index}: OpenVINO finds {n}</source>
            <translation>Intel の GPU {index} はありません：OpenVINO が見つけたのは {n} 個です</translation>
        </message>
        <message>
            <source>there is no desktop to hear a key on</source>
            <translation>キーを受け取れるデスクトップがありません</translation>
        </message>
        <message>
            <source>there is no file {path}; check the path</source>
            <translation>ファイル {path} がありません。パスを確認してください</translation>
        </message>
        <message>
            <source>there is no microphone: plug one in, or allow it in the system's settings for sound</source>
            <translation>マイクがありません：接続するか、システムの音声設定で許可してください</translation>
        </message>
        <message>
            <source>this Wayland session has no message bus to ask its desktop by: bind mcnet-avatar ctl slate to a key in the desktop's own settings</source>
            <translation>この Wayland セッションにはデスクトップに問い合わせるメッセージバスがありません：デスクトップの設定で mcnet-avatar ctl slate にキーを割り当ててください</translation>
        </message>
        <message>
            <source>this computer is being measured</source>
            <translation>このコンピューターを測定中</translation>
        </message>
        <message>
            <source>this desktop's portal gives no keys to apps ({error}): bind mcnet-avatar ctl slate to a key in the desktop's own settings</source>
            <translation>このデスクトップのポータルはアプリにキーを渡しません（{error}）：デスクトップの設定で mcnet-avatar ctl slate にキーを割り当ててください</translation>
        </message>
        <message>
            <source>this machine shows no GPU that a program may compute with (there is no /dev/dri/renderD*)</source>
            <translation>このコンピューターには、プログラムが計算に使える GPU がありません（/dev/dri/renderD* がありません）</translation>
        </message>
        <message>
            <source>this model's keypoints are not known points of a face</source>
            <translation>このモデルのキーポイントは、顔の既知の点ではありません</translation>
        </message>
        <message>
            <source>this user has no home folder: set HOME to a folder where the program may keep its files</source>
            <translation>このユーザーにはホームフォルダーがありません。プログラムがファイルを置けるフォルダーを HOME に設定してください</translation>
        </message>
        <message>
            <source>threads: got {threads}, expected at least 1, or None for all cores</source>
            <translation>スレッド：{threads} が指定されましたが、1 以上、またはすべてのコアなら None が必要です</translation>
        </message>
        <message>
            <source>to do</source>
            <translation>未完了</translation>
        </message>
        <message>
            <source>torch is not installed</source>
            <translation>torch がインストールされていません</translation>
        </message>
        <message>
            <source>torch lacks something on the Apple GPU that the network needs ({error}): use device cpu, or a newer torch</source>
            <translation>Apple の GPU 上の torch に、ネットワークに必要な機能がありません（{error}）：デバイス cpu か、より新しい torch を使ってください</translation>
        </message>
        <message>
            <source>torch {version} (for CUDA {cuda}) finds no usable NVIDIA GPU or driver</source>
            <translation>torch {version}（CUDA {cuda} 用）が使用できる NVIDIA の GPU またはドライバーを見つけられません</translation>
        </message>
        <message>
            <source>torch {version} finds no Apple GPU that it can use</source>
            <translation>torch {version} が使える Apple の GPU を見つけられません</translation>
        </message>
        <message>
            <source>torch {version} has no NVIDIA driver to compute with</source>
            <translation>torch {version} が計算に使う NVIDIA のドライバーがありません</translation>
        </message>
        <message>
            <source>torch {version} is a build without Apple's Metal</source>
            <translation>torch {version} は Apple の Metal なしのビルドです</translation>
        </message>
        <message>
            <source>torch {version} is a build without CUDA</source>
            <translation>torch {version} は CUDA なしのビルドです</translation>
        </message>
        <message>
            <source>trying {way}</source>
            <translation>{way} を試行中</translation>
        </message>
        <message>
            <source>turn your head as in the portrait</source>
            <translation>ポートレートと同じように頭を向けてください</translation>
        </message>
        <message>
            <source>unknown config key {prefix}{unknown}; the known ones are {known}</source>
            <translation>不明な設定キー{prefix}{unknown}。使えるのは{known}です</translation>
        </message>
        <message>
            <source>unknown key {key}</source>
            <translation>不明なキー {key}</translation>
        </message>
        <message>
            <source>unknown {what} {key}</source>
            <translation>不明：{what} {key}</translation>
        </message>
        <message>
            <source>unknown {what} {prefix}{unknown}; the known ones are {kinds}</source>
            <translation>不明：{what} {prefix}{unknown}。使えるのは {kinds}</translation>
        </message>
        <message>
            <source>unplug it and plug it in again, close other programs that use it</source>
            <translation>抜いて差し直し、使用中のほかのプログラムを閉じてください</translation>
        </message>
        <message>
            <source>v4l2loopback is loaded, but has no device.</source>
            <translation>v4l2loopback は読み込まれていますが、デバイスがありません。</translation>
        </message>
        <message>
            <source>version: got {version}, expected {known}</source>
            <translation>version：{version} です。{known} が必要です</translation>
        </message>
        <message>
            <source>virtual camera</source>
            <translation>仮想カメラ</translation>
        </message>
        <message>
            <source>virtual camera {detail}: got a picture of {shape}, expected {expected}</source>
            <translation>仮想カメラ {detail}：画像が {shape} です。{expected} が必要です</translation>
        </message>
        <message>
            <source>virtual camera: got backend {backend}, expected one of {backends}</source>
            <translation>仮想カメラ：バックエンドが {backend} です。{backends} のいずれかが必要です</translation>
        </message>
        <message>
            <source>waiting for the weights of the model in use…</source>
            <translation>使用中のモデルの重みを待っています…</translation>
        </message>
        <message>
            <source>warped L1 of copying</source>
            <translation>変形のコピー比 L1</translation>
        </message>
        <message>
            <source>warped L1 of copying, of what it learns from</source>
            <translation>変形のコピー比 L1（学習データ）</translation>
        </message>
        <message>
            <source>what is around this portrait cannot be shown: {error}</source>
            <translation>このポートレートの周囲を表示できません: {error}</translation>
        </message>
        <message>
            <source>what speaks to PipeWire has crashed</source>
            <translation>PipeWire と通信するプロセスが異常終了しました</translation>
        </message>
        <message>
            <source>what {path} says of itself cannot be read: {why}</source>
            <translation>{path} 自身の記載を読み取れません：{why}</translation>
        </message>
        <message>
            <source>widths of at least {least}</source>
            <translation>{least}以上の幅</translation>
        </message>
        <message>
            <source>wood</source>
            <translation>木</translation>
        </message>
        <message>
            <source>working…</source>
            <translation>処理中…</translation>
        </message>
        <message>
            <source>{busy_ms:.0f} ms each</source>
            <translation>各 {busy_ms:.0f} ms</translation>
        </message>
        <message>
            <source>{camera} gives a picture of one colour: open its shutter, or switch it on with its key</source>
            <translation>{camera} の映像が 1 色だけです：シャッターを開けるか、専用キーで有効にしてください</translation>
        </message>
        <message>
            <source>{camera} goes on.</source>
            <translation>{camera} を使い続けます。</translation>
        </message>
        <message>
            <source>{changed} changed</source>
            <translation>{changed} 件変更</translation>
        </message>
        <message>
            <source>{counts} counts, one for each UpBlock</source>
            <translation>{counts}個の数（UpBlockごとに1つ）</translation>
        </message>
        <message>
            <source>{delay_ms:.0f} ms</source>
            <translation>{delay_ms:.0f} ms</translation>
        </message>
        <message>
            <source>{device} ({name}), {why}, in {precision}</source>
            <translation>{device}（{name}）、{why}、{precision}</translation>
        </message>
        <message>
            <source>{device} in {precision} with {backend}</source>
            <translation>{device}、{precision}、{backend}</translation>
        </message>
        <message>
            <source>{done} of {steps}</source>
            <translation>{done}／{steps}</translation>
        </message>
        <message>
            <source>{error}. Presets of this run are not kept</source>
            <translation>{error}。今回のプリセットは保存されません</translation>
        </message>
        <message>
            <source>{error}; it is asked again in {pause_s:g} s</source>
            <translation>{error}。{pause_s:g}秒後にもう一度求めます</translation>
        </message>
        <message>
            <source>{error}; until it can be had again, it is asked for from time to time</source>
            <translation>{error}。可能になるまで、ときどき求めます</translation>
        </message>
        <message>
            <source>{file} was not finished within {seconds:g} s: leave its disk connected, and see later if it plays</source>
            <translation>{file} は {seconds:g} 秒以内に完成しませんでした：ディスクを接続したままにし、後で再生できるか確認してください</translation>
        </message>
        <message>
            <source>{first} and {then}</source>
            <translation>{first}と{then}</translation>
        </message>
        <message>
            <source>{first} or {then}</source>
            <translation>{first} または {then}</translation>
        </message>
        <message>
            <source>{first}, {then}</source>
            <translation>{first}、{then}</translation>
        </message>
        <message>
            <source>{first}. {then}</source>
            <translation>{first}。{then}</translation>
        </message>
        <message>
            <source>{first}; {then}</source>
            <translation>{first}；{then}</translation>
        </message>
        <message>
            <source>{folder} holds no model: got neither {model_file} nor {latest_file}, expected a folder that `mcnet-train export` wrote, or that of a run that has saved what it learned</source>
            <translation>{folder} にモデルがありません：{model_file} も {latest_file} もありません。`mcnet-train export` が書き出したフォルダーか、学習結果を保存済みの実行のフォルダーが必要です</translation>
        </message>
        <message>
            <source>{found}, while the machine was busy with something else</source>
            <translation>{found}（コンピューターがほかの処理で忙しいときの値）</translation>
        </message>
        <message>
            <source>{fps:.0f} fps</source>
            <translation>{fps:.0f} fps</translation>
        </message>
        <message numerus="yes">
            <source>{fps:5.1f} fps   {n} frames</source>
            <translation>
                <numerusform>{fps:5.1f} fps   {n} フレーム</numerusform>
            </translation>
        </message>
        <message numerus="yes">
            <source>{fps:5.1f} fps   {n} pictures</source>
            <translation>
                <numerusform>{fps:5.1f} fps   {n} 画像</numerusform>
            </translation>
        </message>
        <message>
            <source>{frame_ms:.3g} ms on {way}</source>
            <translation>{frame_ms:.3g} ms（{way}）</translation>
        </message>
        <message>
            <source>{kept}; {error}</source>
            <translation>{kept}。{error}</translation>
        </message>
        <message>
            <source>{key} shows the slate, whichever window has the focus.</source>
            <translation>どのウィンドウにフォーカスがあっても {key} で待機画面になります。</translation>
        </message>
        <message>
            <source>{key}: got {got}, expected no such key</source>
            <translation>{key}：{got} です。このキーは不要です</translation>
        </message>
        <message>
            <source>{key}: got {got}, expected {expected}</source>
            <translation>{key}：{got} です。{expected} が必要です</translation>
        </message>
        <message>
            <source>{lack}; in a clone, `make setup` installs every package</source>
            <translation>{lack}。クローンでは `make setup` ですべてのパッケージがインストールされます</translation>
        </message>
        <message>
            <source>{lack}; or switch Content Credentials off</source>
            <translation>{lack}。または、コンテンツクレデンシャルをオフにしてください</translation>
        </message>
        <message>
            <source>{lack}; use device cpu, or another precision</source>
            <translation>{lack}。デバイス cpu か別の精度を使ってください</translation>
        </message>
        <message>
            <source>{levels} widths, as the encoder</source>
            <translation>エンコーダーと同じ{levels}個の幅</translation>
        </message>
        <message>
            <source>{licences} and {more} more</source>
            <translation>{licences}ほか{more}件</translation>
        </message>
        <message>
            <source>{licences}; not stated for some</source>
            <translation>{licences}。一部は記載なし</translation>
        </message>
        <message>
            <source>{measure} {share:.0%}</source>
            <translation>{measure} {share:.0%}</translation>
        </message>
        <message>
            <source>{measure} {value:.2f}</source>
            <translation>{measure} {value:.2f}</translation>
        </message>
        <message>
            <source>{model} animates the portrait now.</source>
            <translation>{model} がポートレートを動かしています。</translation>
        </message>
        <message>
            <source>{model} cannot be used: {reason}. {other} goes on.</source>
            <translation>{model} を使えません：{reason}。{other} を使い続けます。</translation>
        </message>
        <message>
            <source>{model} cannot be used: {reason}. {other} is back.</source>
            <translation>{model} を使えません：{reason}。{other} に戻りました。</translation>
        </message>
        <message>
            <source>{names}; did you mean {nearest}?</source>
            <translation>{names}。{nearest} のことですか？</translation>
        </message>
        <message>
            <source>{name} (key {key})</source>
            <translation>{name}（キー {key}）</translation>
        </message>
        <message>
            <source>{name} (process {pid})</source>
            <translation>{name}（プロセス {pid}）</translation>
        </message>
        <message>
            <source>{name} (sm_{major}{minor}) is older than what this torch was built for (sm_{known})</source>
            <translation>{name}（sm_{major}{minor}）は、この torch の対応（sm_{known}）より古いものです</translation>
        </message>
        <message>
            <source>{name} came with the app and keeps its name: only your own portraits can be renamed</source>
            <translation>{name} はアプリに付属のため、名前を変えられません。名前を変えられるのは自分のポートレートだけです</translation>
        </message>
        <message>
            <source>{name} came with the app and stays: only your own portraits can be removed</source>
            <translation>{name} はアプリに付属のため、削除できません。削除できるのは自分のポートレートだけです</translation>
        </message>
        <message>
            <source>{name} cannot be found: no host of that name is known; check the address, or use the number that the app shows</source>
            <translation>{name} が見つかりません：その名前のホストがありません。アドレスを確認するか、アプリに表示される番号を使ってください</translation>
        </message>
        <message>
            <source>{name} cannot be opened: it is in use by another program, or not permitted; close that program</source>
            <translation>{name} を開けません。別のプログラムが使用中か、許可されていません。そのプログラムを閉じてください</translation>
        </message>
        <message>
            <source>{name} cannot be opened: it is in use by another program, or not permitted; close that program; allow it under {place}</source>
            <translation>{name} を開けません。別のプログラムが使用中か、許可されていません。そのプログラムを閉じるか、{place} で許可してください</translation>
        </message>
        <message>
            <source>{name} cannot be opened: {reason}</source>
            <translation>{name} を開けません：{reason}</translation>
        </message>
        <message>
            <source>{name} cannot be reached ({cause}): see that its app runs, that both are in the same network, and that the address and its port are right</source>
            <translation>{name} に接続できません（{cause}）：アプリが動作中か、同じネットワークにあるか、アドレスとポートが正しいか確認してください</translation>
        </message>
        <message>
            <source>{name} cannot be used: {problem}; close programs that may use it, or plug it in again</source>
            <translation>{name} を使えません：{problem}。使用中のプログラムを閉じるか、接続し直してください</translation>
        </message>
        <message>
            <source>{name} changed its picture from {width_px} x {height_px} to {width} x {height}: it is opened anew</source>
            <translation>{name} の映像が {width_px} x {height_px} から {width} x {height} に変わりました：開き直します</translation>
        </message>
        <message>
            <source>{name} changed its picture: got {shape}, expected {value}; open it again</source>
            <translation>{name} の映像が変わりました：{shape} です。{value} が必要です。開き直してください</translation>
        </message>
        <message>
            <source>{name} could not be closed: {reason}</source>
            <translation>{name} を閉じられませんでした：{reason}</translation>
        </message>
        <message>
            <source>{name} could not be finished: {reason}</source>
            <translation>{name} を完了できませんでした：{reason}</translation>
        </message>
        <message>
            <source>{name} does not answer: got nothing within {seconds:g} s; see that its app runs, and that both are in the same network</source>
            <translation>{name} が応答しません：{seconds:g} 秒以内に何も届きませんでした。アプリが動作中か、同じネットワークにあるか確認してください</translation>
        </message>
        <message>
            <source>{name} does not answer: {users} attempts to read it hang in its driver; {remedy}, or choose another camera</source>
            <translation>{name} が応答しません：{users} 回の読み取りがドライバーで止まっています。{remedy}、または別のカメラを選んでください</translation>
        </message>
        <message>
            <source>{name} does not tell the ranges of its activations: write a file that does (`mcnet convert --int8`)</source>
            <translation>{name} に活性値の範囲がありません：範囲を含むファイルを書き出してください（`mcnet convert --int8`）</translation>
        </message>
        <message>
            <source>{name} ended without a frame</source>
            <translation>{name} はフレームを出さずに終了しました</translation>
        </message>
        <message>
            <source>{name} failed: {error}</source>
            <translation>{name} が失敗しました：{error}</translation>
        </message>
        <message>
            <source>{name} failed: {reason}</source>
            <translation>{name} が失敗しました：{reason}</translation>
        </message>
        <message>
            <source>{name} gave no frame within {seconds:g} s: {remedy}, or choose another camera</source>
            <translation>{name} から {seconds:g} 秒以内にフレームが届きませんでした：{remedy}、または別のカメラを選んでください</translation>
        </message>
        <message>
            <source>{name} gives no frames any more: unplugged, or taken by another program; plug it in again or close the other program</source>
            <translation>{name} からフレームが届かなくなりました：取り外されたか、別のプログラムが使用しています。接続し直すか、そのプログラムを閉じてください</translation>
        </message>
        <message>
            <source>{name} gives no video ({cause}): look in its app for the video's address</source>
            <translation>{name} から動画が届きません（{cause}）：アプリで動画のアドレスを調べてください</translation>
        </message>
        <message>
            <source>{name} gives no video: got a page or a file; use the address of the video itself, such as {scheme}://{address}{path}</source>
            <translation>{name} から届くのは動画ではなくページかファイルです。{scheme}://{address}{path} のように動画自体のアドレスを使ってください</translation>
        </message>
        <message>
            <source>{name} gives no video: got a stream without pictures; look in its app for the video's address</source>
            <translation>{name} から届くのは映像のないストリームです。アプリで動画のアドレスを調べてください</translation>
        </message>
        <message>
            <source>{name} gives pictures of {width} x {height}, expected at least {least_px} pixels per side: choose a larger size in its app</source>
            <translation>{name} の映像は {width} x {height} です。1 辺 {least_px} ピクセル以上が必要です：アプリでより大きいサイズを選んでください</translation>
        </message>
        <message>
            <source>{name} has closed the connection: see that its app still runs</source>
            <translation>{name} が接続を閉じました：アプリが動作中か確認してください</translation>
        </message>
        <message>
            <source>{name} has ended; plug it in again, or choose another camera</source>
            <translation>{name} が終了しました。接続し直すか、別のカメラを選んでください</translation>
        </message>
        <message>
            <source>{name} has given no frame for {seconds:g} s; it is opened anew. If that does not help, {remedy}, or choose another camera</source>
            <translation>{name} から {seconds:g} 秒間フレームが届かないため、開き直します。改善しない場合：{remedy}、または別のカメラを選んでください</translation>
        </message>
        <message>
            <source>{name} has given no picture for {seconds:g} s: see that its app is in front, the phone awake, and both in the same network</source>
            <translation>{name} から {seconds:g} 秒間映像が届きません：アプリが前面にあり、スマートフォンがスリープしておらず、同じネットワークにあるか確認してください</translation>
        </message>
        <message>
            <source>{name} has given the very same picture for {seconds:g} s: it is frozen and is opened anew. If that does not help, plug it in again</source>
            <translation>{name} の映像が {seconds:g} 秒間まったく変わりません：固まっているため開き直します。改善しない場合は接続し直してください</translation>
        </message>
        <message>
            <source>{name} has no video there ({cause}): look in its app for the video's address</source>
            <translation>{name} のその場所に動画がありません（{cause}）：アプリで動画のアドレスを調べてください</translation>
        </message>
        <message>
            <source>{name} is a motion file, expected what gives pictures</source>
            <translation>{name} はモーションファイルです。映像のあるものが必要です</translation>
        </message>
        <message>
            <source>{name} is a recording, expected a live camera: download it, and give the file</source>
            <translation>{name} は録画です。ライブのカメラが必要です：ダウンロードして、そのファイルを指定してください</translation>
        </message>
        <message>
            <source>{name} is in use by {users}; close that program</source>
            <translation>{name} は {users} が使用中です。そのプログラムを閉じてください</translation>
        </message>
        <message>
            <source>{name} is saved, but without Content Credentials: {why}.</source>
            <translation>{name} を保存しましたが、コンテンツクレデンシャルはありません：{why}。</translation>
        </message>
        <message>
            <source>{name} is there, but is not used: {lack}</source>
            <translation>{name} はありますが、使われていません：{lack}</translation>
        </message>
        <message>
            <source>{name} wants another user name or password: give them in the address, as in http://USER:PASSWORD@HOST/video</source>
            <translation>{name} には別のユーザー名かパスワードが必要です：http://USER:PASSWORD@HOST/video のようにアドレスに含めてください</translation>
        </message>
        <message>
            <source>{name} was closed; open it again to read on</source>
            <translation>{name} は閉じられました。読み続けるには開き直してください</translation>
        </message>
        <message>
            <source>{name} was taken out of the gallery.</source>
            <translation>{name} をギャラリーから外しました。</translation>
        </message>
        <message>
            <source>{name}, a camera of another kind</source>
            <translation>{name}（別の種類のカメラ）</translation>
        </message>
        <message>
            <source>{name}, score {score} of 100</source>
            <translation>{name}、評価 {score}／100</translation>
        </message>
        <message>
            <source>{name}, {cores} cores, {threads} threads</source>
            <translation>{name}、{cores} コア、{threads} スレッド</translation>
        </message>
        <message>
            <source>{name}: got no frame any more, expected a video; was the file changed?</source>
            <translation>{name}：フレームが届かなくなりました。動画が必要です。ファイルが変更されていませんか</translation>
        </message>
        <message>
            <source>{name}: there is no such camera; {advice}</source>
            <translation>{name}：そのカメラはありません。{advice}</translation>
        </message>
        <message>
            <source>{name}: {complaint}</source>
            <translation>{name}：{complaint}</translation>
        </message>
        <message>
            <source>{name}: {text}</source>
            <translation>{name}：{text}</translation>
        </message>
        <message>
            <source>{number} from {hop}</source>
            <translation>{number}（{hop}）</translation>
        </message>
        <message>
            <source>{number} more</source>
            <translation>ほか {number} 件</translation>
        </message>
        <message>
            <source>{number}%</source>
            <comment>percent</comment>
            <translation>{number}%</translation>
        </message>
        <message>
            <source>{p50:.0f} ms in app (p95 {p95:.0f})</source>
            <translation>アプリ内 {p50:.0f} ms（p95 {p95:.0f}）</translation>
        </message>
        <message>
            <source>{path} ({name}) is a virtual camera that no program feeds, expected a webcam; choose another</source>
            <translation>{path}（{name}）は、どのプログラムからも映像が来ていない仮想カメラです。ウェブカメラが必要です。別のカメラを選んでください</translation>
        </message>
        <message>
            <source>{path} ({name}) is not a capture device, expected a webcam; choose another</source>
            <translation>{path}（{name}）はキャプチャーデバイスではありません。ウェブカメラが必要です。別のカメラを選んでください</translation>
        </message>
        <message>
            <source>{path} cannot be read ({error}); check the path</source>
            <translation>{path} を読み込めません（{error}）。パスを確認してください</translation>
        </message>
        <message>
            <source>{path} cannot be read as a checkpoint: it is something else, or truncated or damaged; get it again</source>
            <translation>{path} をチェックポイントとして読み込めません：別のものか、途中で切れているか破損しています。入手し直してください</translation>
        </message>
        <message>
            <source>{path} cannot be read as a motion file: {error}; copy or record it again</source>
            <translation>{path} をモーションファイルとして読み込めません：{error}。コピーするか記録し直してください</translation>
        </message>
        <message>
            <source>{path} cannot be read: {cause}</source>
            <translation>{path} を読み込めません：{cause}</translation>
        </message>
        <message>
            <source>{path} has a header that cannot be used: {error}; a newer version may have written it</source>
            <translation>{path} のヘッダーを使えません：{error}。新しいバージョンで書かれたものかもしれません</translation>
        </message>
        <message>
            <source>{path} has {count} frames, expected at most {most}</source>
            <translation>{path} は {count} フレームあります。上限は {most} です</translation>
        </message>
        <message>
            <source>{path} holds no certificates ({error}); expected PEM, the signer's first</source>
            <translation>{path} に証明書がありません（{error}）。署名者のものを先頭にした PEM が必要です</translation>
        </message>
        <message>
            <source>{path} holds no private key ({error}); expected PEM</source>
            <translation>{path} に秘密鍵がありません（{error}）。PEM が必要です</translation>
        </message>
        <message>
            <source>{path} is a damaged motion file: {error}; copy or record it again</source>
            <translation>{path} は破損したモーションファイルです：{error}。コピーするか記録し直してください</translation>
        </message>
        <message>
            <source>{path} is a file of torch's, and {lack}: convert it once where torch is (`mcnet convert {name} model.safetensors --int8`), and use that</source>
            <translation>{path} は torch のファイルですが、{lack}：torch のある環境で一度変換して（`mcnet convert {name} model.safetensors --int8`）、それを使ってください</translation>
        </message>
        <message>
            <source>{path} is a folder, a device or a pipe, and only a file can be used; choose another</source>
            <translation>{path} はフォルダー、デバイス、またはパイプです。ファイルだけが使えます。別のものを選んでください</translation>
        </message>
        <message>
            <source>{path} is a motion file of version {version}, this program knows versions up to {known}; use a newer one</source>
            <translation>{path} はバージョン {version} のモーションファイルです。このプログラムが対応するのは {known} までです。新しいものを使ってください</translation>
        </message>
        <message>
            <source>{path} is cut short: got {size} bytes, expected {end}; get it again</source>
            <translation>{path} は途中で切れています：{size} バイト、正しくは {end} です。入手し直してください</translation>
        </message>
        <message>
            <source>{path} is damaged: its tensors hash to {got}, its header says {content_hash}; get it again</source>
            <translation>{path} は破損しています：テンソルのハッシュは {got}、ヘッダーでは {content_hash} です。入手し直してください</translation>
        </message>
        <message>
            <source>{path} is larger than {most} MB, expected a motion file; take a shorter one</source>
            <translation>{path} は {most} MB を超えています。モーションファイルが必要です。より短いものを使ってください</translation>
        </message>
        <message>
            <source>{path} is no MCNet checkpoint: got {found}, expected dicts named {parts}</source>
            <translation>{path} は MCNet のチェックポイントではありません：{found} です。{parts} という名前の dict が必要です</translation>
        </message>
        <message>
            <source>{path} is no motion file: expected one that --save-motion or the app recorded</source>
            <translation>{path} はモーションファイルではありません：--save-motion かアプリで記録したものが必要です</translation>
        </message>
        <message>
            <source>{path} is no safetensors file that can be read ({said}): get it again</source>
            <translation>{path} は読み込める safetensors ファイルではありません（{said}）：入手し直してください</translation>
        </message>
        <message>
            <source>{path} is no safetensors file: its header is no table</source>
            <translation>{path} は safetensors ファイルではありません：ヘッダーが表ではありません</translation>
        </message>
        <message>
            <source>{path} is no safetensors file: its header lists no tensors</source>
            <translation>{path} は safetensors ファイルではありません：ヘッダーにテンソルの一覧がありません</translation>
        </message>
        <message>
            <source>{path} is no whole safetensors file ({error}): it may be truncated; get it again</source>
            <translation>{path} は完全な safetensors ファイルではありません ({error})。途中で切れている可能性があります。もう一度入手してください</translation>
        </message>
        <message>
            <source>{path} is no whole safetensors file: it may be truncated, or something else</source>
            <translation>{path} は完全な safetensors ファイルではありません：途中で切れているか、別のものかもしれません</translation>
        </message>
        <message>
            <source>{path} is not a model of ours: got format {found} in its header, expected {format}</source>
            <translation>{path} はこのアプリのモデルではありません：ヘッダーの形式は {found}、必要なのは {format} です</translation>
        </message>
        <message>
            <source>{path} is not a model of ours: got format {got} in its header, expected {format}</source>
            <translation>{path} はこのアプリのモデルではありません：ヘッダーの形式は {got}、必要なのは {format} です</translation>
        </message>
        <message>
            <source>{path} is refused: besides tensors it holds something that could run code when it is read ({wanted}); do not trust where it came from, or have it saved again with tensors only</source>
            <translation>{path} は受け付けません：テンソル以外に、読み込むとコードを実行しうるものが含まれています（{wanted}）。入手元を信用せず、テンソルだけで保存し直してもらってください</translation>
        </message>
        <message>
            <source>{path} was changed, and not all of it can be used: {said}. In place of that stays what this window has; {kept}.</source>
            <translation>{path} が変更されましたが、一部は使えません：{said}。その部分はこのウィンドウの内容のままです。{kept}。</translation>
        </message>
        <message>
            <source>{path}: got suffix {suffix}, expected {kinds}</source>
            <translation>{path}：拡張子が {suffix} です。{kinds} が必要です</translation>
        </message>
        <message>
            <source>{path}: {key} is a tensor of {kind}, expected F32 or F16 as we write them: have the model saved again as one of these</source>
            <translation>{path}: {key} は {kind} のテンソルです。F32 か F16 が必要です。モデルをいずれかで保存し直してもらってください</translation>
        </message>
        <message>
            <source>{path}: {part}.{key} is a {kind}, expected a name and a tensor</source>
            <translation>{path}：{part}.{key} は {kind} です。名前とテンソルが必要です</translation>
        </message>
        <message>
            <source>{percent:.0f} %</source>
            <translation>{percent:.0f}%</translation>
        </message>
        <message>
            <source>{place} is a link, which the token of control from outside cannot be: remove it</source>
            <translation>{place} はリンクです。外部からの操作のトークンにはリンクを使えません：削除してください</translation>
        </message>
        <message>
            <source>{precision} (measured to be the fastest here)</source>
            <translation>{precision}（この環境で最も速いと測定）</translation>
        </message>
        <message>
            <source>{precision} (which it multiplies best)</source>
            <translation>{precision}（最も得意な乗算）</translation>
        </message>
        <message>
            <source>{precision} (which it multiplies natively)</source>
            <translation>{precision}（乗算をネイティブに実行）</translation>
        </message>
        <message>
            <source>{problems}; and {number} more</source>
            <translation>{problems}；ほか {number} 件</translation>
        </message>
        <message>
            <source>{rate_hz:g} per second</source>
            <translation>毎秒 {rate_hz:g} 回</translation>
        </message>
        <message>
            <source>{reason}; nothing else computes on {device}: use device cpu</source>
            <translation>{reason}。{device} ではほかに計算できるものがありません：デバイス cpu を使ってください</translation>
        </message>
        <message>
            <source>{reason}; {lack}, so that nothing else computes: install it, or mend that</source>
            <translation>{reason}。{lack}ため、ほかに計算できるものがありません：インストールするか、修正してください</translation>
        </message>
        <message>
            <source>{request} A second or two is enough (F).</source>
            <translation>{request} 1～2 秒で十分です（F）。</translation>
        </message>
        <message>
            <source>{request} The best frame of a second or two becomes the reference (F).</source>
            <translation>{request} 1～2 秒のうち最もよいフレームが基準になります（F）。</translation>
        </message>
        <message>
            <source>{score} of 100</source>
            <translation>{score}／100</translation>
        </message>
        <message>
            <source>{score} of 100, as calibrated before</source>
            <translation>{score}／100（前回の調整のとおり）</translation>
        </message>
        <message>
            <source>{score}: {remarks}</source>
            <translation>{score}：{remarks}</translation>
        </message>
        <message>
            <source>{sentence} {fix}.</source>
            <translation>{sentence} {fix}。</translation>
        </message>
        <message>
            <source>{sentence} {fix}: {command}</source>
            <translation>{sentence} {fix}：{command}</translation>
        </message>
        <message>
            <source>{size_px} px, {millions:.2g} M parameters</source>
            <translation>{size_px} px、{millions:.2g} M パラメーター</translation>
        </message>
        <message>
            <source>{tip} Double-click the name, or press Backspace, for {words}.</source>
            <translation>{tip} 名前をダブルクリックするか Backspace を押すと {words} に戻ります。</translation>
        </message>
        <message>
            <source>{tip} Times Expression.</source>
            <translation>{tip} 「表情」に掛け合わされます。</translation>
        </message>
        <message>
            <source>{tip} Times Motion.</source>
            <translation>{tip} 「動き」に掛け合わされます。</translation>
        </message>
        <message>
            <source>{trouble} A call hears nothing meanwhile; it is tried again.</source>
            <translation>{trouble} その間、通話に音声は届きません。再試行します。</translation>
        </message>
        <message>
            <source>{trouble} Recordings go on, and are silent meanwhile.</source>
            <translation>{trouble} 録画は続きますが、その間は無音です。</translation>
        </message>
        <message>
            <source>{value:6.1f}</source>
            <translation>{value:6.1f}</translation>
        </message>
        <message>
            <source>{way}: {reason}</source>
            <translation>{way}：{reason}</translation>
        </message>
        <message>
            <source>{what} cannot be used: {error}</source>
            <translation>{what}を使えません：{error}</translation>
        </message>
        <message>
            <source>{what} {key}: got {value}, expected a list</source>
            <translation>{what} {key}：{value} です。リストが必要です</translation>
        </message>
        <message>
            <source>{what} {key}: got {value}, expected a table of values</source>
            <translation>{what} {key}：{value} です。値の表が必要です</translation>
        </message>
        <message>
            <source>{what} {key}: got {value}, expected {allowed}</source>
            <translation>{what} {key}：{value} です。{allowed} が必要です</translation>
        </message>
        <message>
            <source>{what} {key}: got {value}, expected {kind}</source>
            <translation>{what} {key}：{value} です。{kind} が必要です</translation>
        </message>
        <message>
            <source>{what}.{name}: got {got}, expected a table</source>
            <translation>{what}.{name}：{got} です。表が必要です</translation>
        </message>
        <message>
            <source>{what}.{name}: {complaint}</source>
            <translation>{what}.{name}：{complaint}</translation>
        </message>
        <message>
            <source>{what}: got {got}, expected a table of presets</source>
            <translation>{what}：{got} です。プリセットの表が必要です</translation>
        </message>
        <message>
            <source>{where} does not hold the network it should: {problems}. Convert the original file again, or use another one</source>
            <translation>{where} に必要なネットワークがありません：{problems}。元のファイルを変換し直すか、別のものを使ってください</translation>
        </message>
        <message>
            <source>{where}: {key} holds NaN or infinite values, expected finite weights; if a training run diverged, use an earlier checkpoint of it</source>
            <translation>{where}：{key} に NaN か無限大が含まれています。有限の重みが必要です。学習が発散した場合は、それ以前のチェックポイントを使ってください</translation>
        </message>
        <message>
            <source>{where}: {key} is a {kind} tensor, expected plain floating point</source>
            <translation>{where}：{key} は {kind} のテンソルです。通常の浮動小数点が必要です</translation>
        </message>
        <message>
            <source>{width_px} x {height_px}, {fps_hz:.0f} fps</source>
            <translation>{width_px} x {height_px}、{fps_hz:.0f} fps</translation>
        </message>
        <message>
            <source>{widths} (the encoder's, reversed) when lateral is false</source>
            <translation>lateralがfalseのときは{widths}（エンコーダーの逆順）</translation>
        </message>
        <message>
            <source>{words}.</source>
            <comment>a whole sentence</comment>
            <translation>{words}。</translation>
        </message>
        <message>
            <source>“AI avatar” badge</source>
            <translation>「AI avatar」バッジ</translation>
        </message>
    </context>
</TS>
