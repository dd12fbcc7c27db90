<?xml version="1.0" encoding="utf-8"?>
<!DOCTYPE TS>
<TS version="2.1" language="zh_CN" sourcelanguage="en">
    <context>
        <name>mcnet-avatar</name>
        <message>
            <source>(none is bundled)</source>
            <translation>（没有自带的）</translation>
        </message>
        <message>
            <source>1 to 6: 64 px halve six times</source>
            <translation>1 到 6：64 px 可以减半六次</translation>
        </message>
        <message>
            <source>A call hears nothing: {trouble}.</source>
            <translation>通话听不到声音：{trouble}。</translation>
        </message>
        <message>
            <source>A call hears you {delay_ms:.0f} ms late, with the picture.</source>
            <translation>通话听到您的声音会延迟 {delay_ms:.0f} ms，与画面同步。</translation>
        </message>
        <message>
            <source>A device that every call program lists. It needs a kernel module, and root once.</source>
            <translation>所有通话程序都会列出的设备。需要内核模块，并需一次 root 权限。</translation>
        </message>
        <message>
            <source>A folder for recordings</source>
            <translation>用于保存录像的文件夹</translation>
        </message>
        <message>
            <source>A folder…</source>
            <translation>文件夹…</translation>
        </message>
        <message>
            <source>A lattice drawn on the portrait, moved as the portrait is</source>
            <translation>画在肖像上的网格，随肖像一起移动</translation>
        </message>
        <message>
            <source>A model</source>
            <translation>模型</translation>
        </message>
        <message>
            <source>A model's folder, or that of a run that learns</source>
            <translation>模型的文件夹，或正在学习的训练文件夹</translation>
        </message>
        <message>
            <source>A motion file for the avatar that idles</source>
            <translation>供静息的虚拟形象使用的动作文件</translation>
        </message>
        <message>
            <source>A motion file in the camera's place</source>
            <translation>用动作文件代替摄像头</translation>
        </message>
        <message>
            <source>A motion file…</source>
            <translation>动作文件…</translation>
        </message>
        <message>
            <source>A phone with a camera app, or any camera with an address on your network</source>
            <translation>装有摄像头应用的手机，或网络上任何有地址的摄像头</translation>
        </message>
        <message>
            <source>A picture as background</source>
            <translation>用作背景的图片</translation>
        </message>
        <message>
            <source>A picture for the slate</source>
            <translation>待机画面的图片</translation>
        </message>
        <message>
            <source>A picture of yours that the slate shows</source>
            <translation>待机画面上显示的您自己的图片</translation>
        </message>
        <message>
            <source>A picture of yours that the slate shows; now: {file}</source>
            <translation>待机画面上显示的您自己的图片；当前：{file}</translation>
        </message>
        <message>
            <source>A picture…</source>
            <translation>图片…</translation>
        </message>
        <message>
            <source>A safe start avoids what may have been the cause: the processor computes, there is no virtual camera, and all settings are the defaults. Your own are kept for the next start.</source>
            <translation>安全启动会避开可能的原因：由处理器计算，没有虚拟摄像头，所有设置均为默认值。您自己的设置会保留到下次启动。</translation>
        </message>
        <message>
            <source>A video as background</source>
            <translation>用作背景的视频</translation>
        </message>
        <message>
            <source>A video in the camera's place</source>
            <translation>用视频代替摄像头</translation>
        </message>
        <message>
            <source>A video…</source>
            <translation>视频…</translation>
        </message>
        <message>
            <source>AKD of copying</source>
            <translation>相对直接复制的 AKD</translation>
        </message>
        <message>
            <source>Absolute</source>
            <translation>绝对</translation>
        </message>
        <message>
            <source>Add a picture from a file</source>
            <translation>从文件添加图片</translation>
        </message>
        <message>
            <source>Add a picture from the clipboard</source>
            <translation>从剪贴板添加图片</translation>
        </message>
        <message>
            <source>Add a picture of yours (Ctrl+O), or drop one anywhere</source>
            <translation>添加您自己的图片（Ctrl+O），也可以拖放到窗口任意位置</translation>
        </message>
        <message>
            <source>Add a portrait</source>
            <translation>添加肖像</translation>
        </message>
        <message>
            <source>Add neither this picture nor those that wait</source>
            <translation>不添加此图片，也不添加等待中的图片</translation>
        </message>
        <message>
            <source>Add the picture in the clipboard (Ctrl+V)</source>
            <translation>添加剪贴板中的图片（Ctrl+V）</translation>
        </message>
        <message>
            <source>Add yours…</source>
            <translation>添加自己的…</translation>
        </message>
        <message>
            <source>Add…</source>
            <translation>添加…</translation>
        </message>
        <message>
            <source>Adjust the crop</source>
            <translation>调整裁剪</translation>
        </message>
        <message>
            <source>Allow it in System Settings &gt; {place}</source>
            <translation>请在系统设置 &gt; {place} 中允许</translation>
        </message>
        <message>
            <source>Always dark</source>
            <translation>始终使用深色</translation>
        </message>
        <message>
            <source>Always light</source>
            <translation>始终使用浅色</translation>
        </message>
        <message>
            <source>Another colour</source>
            <translation>其他颜色</translation>
        </message>
        <message>
            <source>Another file…</source>
            <translation>其他文件…</translation>
        </message>
        <message>
            <source>Another name for {preset}:</source>
            <translation>{preset} 的新名称：</translation>
        </message>
        <message>
            <source>As the desktop</source>
            <translation>跟随桌面</translation>
        </message>
        <message>
            <source>As the system</source>
            <translation>跟随系统</translation>
        </message>
        <message>
            <source>Attention</source>
            <translation>注意力</translation>
        </message>
        <message>
            <source>Automatic</source>
            <translation>自动</translation>
        </message>
        <message>
            <source>Automatic crop</source>
            <translation>自动裁剪</translation>
        </message>
        <message>
            <source>Automatic: {device}</source>
            <translation>自动：{device}</translation>
        </message>
        <message>
            <source>Avatar</source>
            <translation>虚拟形象</translation>
        </message>
        <message>
            <source>Back to the preview (Escape)</source>
            <translation>返回预览（Esc）</translation>
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
            <translation>记忆补偿前后的特征，使用相同的主成分</translation>
        </message>
        <message>
            <source>Begins…</source>
            <translation>正在开始…</translation>
        </message>
        <message>
            <source>Blinks, and eyes wide open.</source>
            <translation>眨眼和睁大眼睛。</translation>
        </message>
        <message>
            <source>Blur</source>
            <translation>模糊</translation>
        </message>
        <message>
            <source>Brows</source>
            <translation>眉毛</translation>
        </message>
        <message>
            <source>Browsers and OBS see it once their PipeWire camera is switched on; the apps of Zoom and Teams do not.</source>
            <translation>浏览器和 OBS 在启用其 PipeWire 摄像头后可以看到它；Zoom 和 Teams 的应用则不能。</translation>
        </message>
        <message>
            <source>CALIBRATING</source>
            <translation>校准中</translation>
        </message>
        <message>
            <source>Calibrate</source>
            <translation>校准</translation>
        </message>
        <message>
            <source>Calibrate (F)</source>
            <translation>校准（F）</translation>
        </message>
        <message>
            <source>Calibrate hands-free (F)</source>
            <translation>免提校准（F）</translation>
        </message>
        <message>
            <source>Calibrate hands-free: the best frame of a second or two</source>
            <translation>免提校准：选取一两秒内最佳的一帧</translation>
        </message>
        <message>
            <source>Calibrate: this very frame is the reference</source>
            <translation>校准：以当前这一帧为参考</translation>
        </message>
        <message>
            <source>Call this picture of yours something else (F2)</source>
            <translation>重命名您的这张图片（F2）</translation>
        </message>
        <message>
            <source>Call this preset something else</source>
            <translation>重命名此预设</translation>
        </message>
        <message>
            <source>Calms jitter; a slow movement is shown that much later.</source>
            <translation>减轻抖动；缓慢的动作会相应延迟显示。</translation>
        </message>
        <message>
            <source>Camera</source>
            <translation>摄像头</translation>
        </message>
        <message>
            <source>Camera {number}</source>
            <translation>摄像头 {number}</translation>
        </message>
        <message>
            <source>Can be chosen in the window: {words}.</source>
            <translation>可在窗口中选择：{words}。</translation>
        </message>
        <message>
            <source>Cancel</source>
            <translation>取消</translation>
        </message>
        <message>
            <source>Cancel all</source>
            <translation>全部取消</translation>
        </message>
        <message>
            <source>Chain from the camera to the call</source>
            <translation>从摄像头到通话的链路</translation>
        </message>
        <message>
            <source>Change…</source>
            <translation>更改…</translation>
        </message>
        <message>
            <source>Choose another picture or video</source>
            <translation>选择其他图片或视频</translation>
        </message>
        <message>
            <source>Choose two to four views of the network's inside</source>
            <translation>选择二到四个网络内部视图</translation>
        </message>
        <message>
            <source>Choose {camera}</source>
            <translation>请选择 {camera}</translation>
        </message>
        <message>
            <source>Choose “{name}” in your call program. Nobody listens to it yet.</source>
            <translation>请在通话程序中选择“{name}”。目前还没有程序在收听。</translation>
        </message>
        <message>
            <source>Close</source>
            <translation>关闭</translation>
        </message>
        <message>
            <source>Close the programs that use it and load the module again</source>
            <translation>关闭正在使用它的程序，然后重新加载模块</translation>
        </message>
        <message>
            <source>Close {by}</source>
            <translation>请关闭 {by}</translation>
        </message>
        <message>
            <source>Column</source>
            <translation>栏</translation>
        </message>
        <message>
            <source>Command</source>
            <translation>命令</translation>
        </message>
        <message>
            <source>Computer</source>
            <translation>计算机</translation>
        </message>
        <message>
            <source>Content Credentials</source>
            <translation>内容凭证</translation>
        </message>
        <message>
            <source>Control from outside</source>
            <translation>外部控制</translation>
        </message>
        <message>
            <source>Controls</source>
            <translation>控制</translation>
        </message>
        <message>
            <source>Copy</source>
            <translation>复制</translation>
        </message>
        <message>
            <source>Copy the token</source>
            <translation>复制令牌</translation>
        </message>
        <message>
            <source>Copy this command</source>
            <translation>复制此命令</translation>
        </message>
        <message>
            <source>Crop by the face that was found</source>
            <translation>按检测到的人脸裁剪</translation>
        </message>
        <message>
            <source>Crop of the portrait</source>
            <translation>肖像的裁剪</translation>
        </message>
        <message>
            <source>Crop of {name}</source>
            <translation>{name} 的裁剪</translation>
        </message>
        <message>
            <source>Crop of {name} ({number} of {of})</source>
            <translation>{name} 的裁剪（第 {number} 张，共 {of} 张）</translation>
        </message>
        <message>
            <source>Ctrl</source>
            <translation>Ctrl</translation>
        </message>
        <message>
            <source>Cut the person out</source>
            <translation>抠出人物</translation>
        </message>
        <message>
            <source>DROP</source>
            <translation>放下</translation>
        </message>
        <message>
            <source>Dark</source>
            <translation>深色</translation>
        </message>
        <message>
            <source>Delete</source>
            <translation>删除</translation>
        </message>
        <message>
            <source>Delete preset</source>
            <translation>删除预设</translation>
        </message>
        <message>
            <source>Delete this preset; the portraits keep their strengths</source>
            <translation>删除此预设；各肖像保留自己的强度</translation>
        </message>
        <message>
            <source>Device</source>
            <translation>设备</translation>
        </message>
        <message>
            <source>Dismiss</source>
            <translation>关闭</translation>
        </message>
        <message>
            <source>Do what the message proposes</source>
            <translation>执行消息建议的操作</translation>
        </message>
        <message>
            <source>Drag the square, or its corners. Keys: arrows move, plus and minus resize, Page Up and Down turn, comma and full stop straighten.</source>
            <translation>拖动方框或其四角。按键：方向键移动，加号和减号缩放，Page Up 和 Page Down 旋转，逗号和句号校正倾斜。</translation>
        </message>
        <message>
            <source>Draw on your picture what was found in it (O).</source>
            <translation>在您的画面上标出检测结果（O）。</translation>
        </message>
        <message>
            <source>Draw skin, teeth, lids</source>
            <translation>绘制皮肤、牙齿和闭合的眼睑</translation>
        </message>
        <message>
            <source>Draws what the network cannot show of this portrait: its skin where it moves, the inside of a mouth that its picture keeps shut, and lids that close. For motion in space; nothing of your own picture goes into it.</source>
            <translation>绘制网络无法从这张肖像中呈现的内容：随动作移动的皮肤、图片中闭着的嘴的内部，以及闭合的眼睑。用于空间模式；不会用到您自己的任何画面。</translation>
        </message>
        <message>
            <source>Drop a picture to add a portrait, or a video or motion file to stand in for the camera.</source>
            <translation>拖放图片可添加肖像，拖放视频或动作文件可代替摄像头。</translation>
        </message>
        <message>
            <source>Each part of motion and expression for itself, in space only.</source>
            <translation>分别调整动作和表情的各个部分，仅用于空间模式。</translation>
        </message>
        <message>
            <source>Enable RPM Fusion's free repository (rpmfusion.org tells how), then install it</source>
            <translation>启用 RPM Fusion 的 free 软件源（方法见 rpmfusion.org），然后安装</translation>
        </message>
        <message>
            <source>Enter keeps the name, Escape the one before.</source>
            <translation>按 Enter 保存名称，按 Esc 恢复原名。</translation>
        </message>
        <message>
            <source>Everything is ready.</source>
            <translation>一切就绪。</translation>
        </message>
        <message>
            <source>Expression</source>
            <translation>表情</translation>
        </message>
        <message>
            <source>FAULT</source>
            <translation>故障</translation>
        </message>
        <message>
            <source>Features</source>
            <translation>特征</translation>
        </message>
        <message>
            <source>Figures</source>
            <translation>指标</translation>
        </message>
        <message>
            <source>Figures: not measured</source>
            <translation>指标：未测量</translation>
        </message>
        <message>
            <source>Figures: {figures}</source>
            <translation>指标：{figures}</translation>
        </message>
        <message numerus="yes">
            <source>Figures: {figures} ({n} clips that it never saw)</source>
            <translation>
                <numerusform>指标：{figures}（{n} 段未学习过的视频）</numerusform>
            </translation>
        </message>
        <message>
            <source>Find the fastest way to run the model on this computer (a few seconds), and remember it</source>
            <translation>找出模型在这台计算机上最快的运行方式（需几秒钟）并记住</translation>
        </message>
        <message>
            <source>Fine detail</source>
            <translation>精细细节</translation>
        </message>
        <message>
            <source>Fine-tune</source>
            <translation>微调</translation>
        </message>
        <message>
            <source>First steps</source>
            <translation>入门步骤</translation>
        </message>
        <message>
            <source>Flip what the call sees (T).</source>
            <translation>翻转通话中看到的画面（T）。</translation>
        </message>
        <message>
            <source>Folder of recordings</source>
            <translation>录像文件夹</translation>
        </message>
        <message>
            <source>Framing</source>
            <translation>取景</translation>
        </message>
        <message>
            <source>Gaze</source>
            <translation>视线</translation>
        </message>
        <message>
            <source>Generated</source>
            <translation>生成</translation>
        </message>
        <message>
            <source>Give the output to call programs as a camera. It starts with the slate; then go live.</source>
            <translation>把输出作为摄像头提供给通话程序。先显示待机画面，然后您可以开始直播。</translation>
        </message>
        <message>
            <source>Go live</source>
            <translation>开始直播</translation>
        </message>
        <message>
            <source>Go live, or stop</source>
            <translation>开始或停止直播</translation>
        </message>
        <message>
            <source>HOLD</source>
            <translation>保持</translation>
        </message>
        <message>
            <source>Hands-free</source>
            <translation>免提</translation>
        </message>
        <message>
            <source>Have it at every start of the system</source>
            <translation>让系统每次启动时都可用</translation>
        </message>
        <message>
            <source>Heard: {name}</source>
            <translation>正在收音：{name}</translation>
        </message>
        <message>
            <source>Hide</source>
            <translation>隐藏</translation>
        </message>
        <message>
            <source>How far the background is out of focus.</source>
            <translation>背景虚化的程度。</translation>
        </message>
        <message>
            <source>How far the enlarged portrait is sharpened.</source>
            <translation>放大后的肖像锐化程度。</translation>
        </message>
        <message>
            <source>How far the head moves.</source>
            <translation>头部动作的幅度。</translation>
        </message>
        <message>
            <source>How large the portrait stands in the picture (the mouse wheel over the preview).</source>
            <translation>肖像在画面中的大小（也可在预览上滚动鼠标滚轮）。</translation>
        </message>
        <message>
            <source>How long a process of its own was busy with computing one frame once more</source>
            <translation>独立进程重新计算一帧所用的时间</translation>
        </message>
        <message>
            <source>How much of the crop your face fills (W and S).</source>
            <translation>人脸在裁剪区域中所占的大小（W 和 S）。</translation>
        </message>
        <message>
            <source>How often calls and recordings get a picture.</source>
            <translation>通话和录像获得画面的频率。</translation>
        </message>
        <message>
            <source>How strongly mouth, eyes and brows move.</source>
            <translation>嘴、眼和眉毛动作的强度。</translation>
        </message>
        <message>
            <source>I may use this picture</source>
            <translation>我有权使用这张图片</translation>
        </message>
        <message>
            <source>IDLE</source>
            <translation>静息</translation>
        </message>
        <message>
            <source>If there is none, the device keeps an old format: free it</source>
            <translation>如果没有程序在使用，则设备保留了旧格式：请释放它</translation>
        </message>
        <message>
            <source>In a call</source>
            <translation>通话中</translation>
        </message>
        <message>
            <source>In space</source>
            <translation>空间</translation>
        </message>
        <message>
            <source>In the plane</source>
            <translation>平面</translation>
        </message>
        <message>
            <source>In this window 0 shows the slate; a key chosen here does so from every other one, too.</source>
            <translation>在此窗口中按 0 显示待机画面；在这里选择的按键在其他任何窗口中也有效。</translation>
        </message>
        <message>
            <source>Inside the network</source>
            <translation>网络内部</translation>
        </message>
        <message>
            <source>Install OBS Studio 30 or newer from {address}</source>
            <translation>请从 {address} 安装 OBS Studio 30 或更高版本</translation>
        </message>
        <message>
            <source>Install OBS Studio from {address} (it need not run), then restart your call program</source>
            <translation>请从 {address} 安装 OBS Studio（无需运行），然后重启您的通话程序</translation>
        </message>
        <message>
            <source>Install it</source>
            <translation>请安装它</translation>
        </message>
        <message>
            <source>Install it (for another kernel than linux, its own headers: linux-lts-headers, say)</source>
            <translation>请安装它（若内核不是 linux，还需相应的头文件，例如 linux-lts-headers）</translation>
        </message>
        <message>
            <source>Install your distribution's package v4l2loopback (or v4l2loopback-dkms)</source>
            <translation>请安装发行版的软件包 v4l2loopback（或 v4l2loopback-dkms）</translation>
        </message>
        <message>
            <source>Install your distribution's packages pipewire and wireplumber</source>
            <translation>请安装发行版的软件包 pipewire 和 wireplumber</translation>
        </message>
        <message>
            <source>It has no card with figures: nobody has told how good it is (mcnet-train evaluate measures it).</source>
            <translation>它没有带指标的说明卡：效果如何无人说明（可用 mcnet-train evaluate 测量）。</translation>
        </message>
        <message>
            <source>It is a pickled checkpoint without a card: it is read without running code, but nobody tells how good it is or under which licence it may be used.</source>
            <translation>这是没有说明卡的 pickle 检查点：读取时不会执行代码，但无人说明其效果以及可按何种许可使用。</translation>
        </message>
        <message>
            <source>It is being switched on…</source>
            <translation>正在开启…</translation>
        </message>
        <message>
            <source>It is off: {why}.</source>
            <translation>已关闭：{why}。</translation>
        </message>
        <message>
            <source>It is worse than showing the portrait as it is: its pictures are off by {copied:.0%} of what that would be.</source>
            <translation>它还不如直接显示肖像：其画面的误差达到后者的 {copied:.0%}。</translation>
        </message>
        <message>
            <source>It shows me, or the person in it agrees, or nobody real is in it.</source>
            <translation>图片中是我本人、本人已同意，或其中没有真实人物。</translation>
        </message>
        <message>
            <source>Its card is being read…</source>
            <translation>正在读取说明卡…</translation>
        </message>
        <message>
            <source>Join the group of video devices, then log out and in again</source>
            <translation>加入视频设备组，然后注销并重新登录</translation>
        </message>
        <message>
            <source>Keep these strengths under a name</source>
            <translation>将这些强度命名保存</translation>
        </message>
        <message>
            <source>Keep this crop and animate it</source>
            <translation>保留此裁剪并驱动它</translation>
        </message>
        <message>
            <source>Key for the slate, from every window</source>
            <translation>在任何窗口中显示待机画面的按键</translation>
        </message>
        <message>
            <source>Keys</source>
            <translation>按键</translation>
        </message>
        <message>
            <source>Kind of virtual camera</source>
            <translation>虚拟摄像头的类型</translation>
        </message>
        <message>
            <source>L1 of copying</source>
            <translation>相对直接复制的 L1</translation>
        </message>
        <message>
            <source>L1 of copying, of what it learns from</source>
            <translation>相对直接复制的 L1（学习数据）</translation>
        </message>
        <message>
            <source>LIVE</source>
            <translation>直播</translation>
        </message>
        <message>
            <source>Landmarks and keypoints</source>
            <translation>特征点和关键点</translation>
        </message>
        <message>
            <source>Language</source>
            <translation>语言</translation>
        </message>
        <message>
            <source>Lattice</source>
            <translation>网格</translation>
        </message>
        <message>
            <source>Leave everything as it was (Escape)</source>
            <translation>一切保持原样（Esc）</translation>
        </message>
        <message>
            <source>Leave the slate up; the call keeps its picture (G)</source>
            <translation>保留待机画面；通话画面不会中断（G）</translation>
        </message>
        <message>
            <source>Let a Stream Deck, OBS or scripts reach slate, portraits and recordings; on this computer alone.</source>
            <translation>让 Stream Deck、OBS 或脚本控制待机画面、肖像和录制；仅限这台计算机。</translation>
        </message>
        <message>
            <source>Let call programs see the output; it starts with the slate</source>
            <translation>让通话程序看到输出；先显示待机画面</translation>
        </message>
        <message>
            <source>Level</source>
            <translation>电平</translation>
        </message>
        <message>
            <source>Level of the microphone</source>
            <translation>麦克风电平</translation>
        </message>
        <message>
            <source>Licence: {licence}</source>
            <translation>许可：{licence}</translation>
        </message>
        <message>
            <source>Lids</source>
            <translation>眼睑</translation>
        </message>
        <message>
            <source>Lift slate</source>
            <translation>取消待机</translation>
        </message>
        <message>
            <source>Light</source>
            <translation>浅色</translation>
        </message>
        <message>
            <source>Lips, jaw and chin.</source>
            <translation>嘴唇、下颌和下巴。</translation>
        </message>
        <message>
            <source>List all keys (?)</source>
            <translation>列出所有按键（?）</translation>
        </message>
        <message>
            <source>Load the module</source>
            <translation>加载模块</translation>
        </message>
        <message>
            <source>Look again for a virtual camera</source>
            <translation>重新查找虚拟摄像头</translation>
        </message>
        <message>
            <source>Look again for cameras</source>
            <translation>重新查找摄像头</translation>
        </message>
        <message>
            <source>Look again for microphones</source>
            <translation>重新查找麦克风</translation>
        </message>
        <message>
            <source>Look as the portrait does: the head turned alike, mouth and eyes as far open.</source>
            <translation>请与肖像保持一致：头部朝向相同，嘴和眼睛张开程度相同。</translation>
        </message>
        <message>
            <source>Look as you do at rest: mouth closed, eyes open; any direction will do.</source>
            <translation>请保持自然表情：闭嘴、睁眼；朝向不限。</translation>
        </message>
        <message>
            <source>Looking for cameras…</source>
            <translation>正在查找摄像头…</translation>
        </message>
        <message>
            <source>Looking for one…</source>
            <translation>正在查找…</translation>
        </message>
        <message>
            <source>MEASURING</source>
            <translation>测量中</translation>
        </message>
        <message>
            <source>Make another token; the old one is of no use then</source>
            <translation>生成新的令牌；旧令牌随即失效</translation>
        </message>
        <message>
            <source>Masks</source>
            <translation>遮罩</translation>
        </message>
        <message>
            <source>Measure</source>
            <translation>测量</translation>
        </message>
        <message>
            <source>Measured: {words}.</source>
            <translation>测量结果：{words}。</translation>
        </message>
        <message>
            <source>Microphone</source>
            <translation>麦克风</translation>
        </message>
        <message>
            <source>Microphone for calls, in step</source>
            <translation>与画面同步的通话麦克风</translation>
        </message>
        <message>
            <source>Mirror the output</source>
            <translation>翻转输出</translation>
        </message>
        <message>
            <source>Mirror the preview</source>
            <translation>镜像预览</translation>
        </message>
        <message>
            <source>Mirror what the call sees</source>
            <translation>翻转通话中看到的画面</translation>
        </message>
        <message>
            <source>Missing: {link}</source>
            <translation>缺少：{link}</translation>
        </message>
        <message>
            <source>Model</source>
            <translation>模型</translation>
        </message>
        <message>
            <source>Models (*.safetensors *.pth *.tar);;All files (*)</source>
            <translation>模型 (*.safetensors *.pth *.tar);;所有文件 (*)</translation>
        </message>
        <message>
            <source>Motion</source>
            <translation>动作</translation>
        </message>
        <message>
            <source>Motion files (*.safetensors);;All files (*)</source>
            <translation>动作文件 (*.safetensors);;所有文件 (*)</translation>
        </message>
        <message>
            <source>Motion file…</source>
            <translation>动作文件…</translation>
        </message>
        <message>
            <source>Mouth</source>
            <translation>嘴</translation>
        </message>
        <message>
            <source>Move the crop down (J)</source>
            <translation>将裁剪下移（J）</translation>
        </message>
        <message>
            <source>Move the crop to the left (H)</source>
            <translation>将裁剪左移（H）</translation>
        </message>
        <message>
            <source>Move the crop to the right (K)</source>
            <translation>将裁剪右移（K）</translation>
        </message>
        <message>
            <source>Move the crop up (U)</source>
            <translation>将裁剪上移（U）</translation>
        </message>
        <message>
            <source>Moves gently</source>
            <translation>轻微活动</translation>
        </message>
        <message>
            <source>NO CAMERA</source>
            <translation>无摄像头</translation>
        </message>
        <message>
            <source>NO FACE</source>
            <translation>无人脸</translation>
        </message>
        <message>
            <source>Name of the portrait</source>
            <translation>肖像名称</translation>
        </message>
        <message>
            <source>Name of these strengths:</source>
            <translation>这些强度的名称：</translation>
        </message>
        <message>
            <source>Nearness</source>
            <translation>远近</translation>
        </message>
        <message>
            <source>Network camera</source>
            <translation>网络摄像头</translation>
        </message>
        <message>
            <source>Network camera…</source>
            <translation>网络摄像头…</translation>
        </message>
        <message>
            <source>New recordings have your voice, in step with the picture. Switched off, the microphone is closed.</source>
            <translation>新的录像会带上您的声音，并与画面同步。关闭时，麦克风不会被打开。</translation>
        </message>
        <message>
            <source>New token</source>
            <translation>新令牌</translation>
        </message>
        <message>
            <source>Next portrait</source>
            <translation>下一个肖像</translation>
        </message>
        <message>
            <source>Next step</source>
            <translation>下一步</translation>
        </message>
        <message>
            <source>No camera</source>
            <translation>无摄像头</translation>
        </message>
        <message>
            <source>No camera was found. Plug one in and refresh, or let a video file stand in for it.</source>
            <translation>未找到摄像头。请连接后刷新，或用视频文件代替。</translation>
        </message>
        <message>
            <source>No card: nobody tells what it learned from, or how good it is</source>
            <translation>没有说明卡：学习来源和效果均不明</translation>
        </message>
        <message>
            <source>No kernel module and no root, also with Secure Boot. Firefox, Chromium and OBS can list it.</source>
            <translation>无需内核模块和 root 权限，安全启动下也可用。Firefox、Chromium 和 OBS 可以列出它。</translation>
        </message>
        <message>
            <source>No picture goes out any more.</source>
            <translation>不再输出任何画面。</translation>
        </message>
        <message>
            <source>Nod</source>
            <translation>点头</translation>
        </message>
        <message>
            <source>None: transparent</source>
            <translation>无：透明</translation>
        </message>
        <message>
            <source>Not all of the list of portraits could be read: {said}. A portrait may have lost its name or its crop; {kept}.</source>
            <translation>肖像列表未能全部读取：{said}。可能有肖像丢失了名称或裁剪；{kept}。</translation>
        </message>
        <message>
            <source>Not all presets could be used: {said}. All others are there; {kept}.</source>
            <translation>部分预设无法使用：{said}。其他预设均在；{kept}。</translation>
        </message>
        <message>
            <source>Not all settings could be used: {said}. All others are in force; {kept}.</source>
            <translation>部分设置无法使用：{said}。其他设置均已生效；{kept}。</translation>
        </message>
        <message>
            <source>Not in space: {reason}.</source>
            <translation>不能使用空间模式：{reason}。</translation>
        </message>
        <message>
            <source>Not possible here while another window has the focus: {words}.</source>
            <translation>当焦点在其他窗口时，此处无法使用：{words}。</translation>
        </message>
        <message>
            <source>Not yet: {missing}</source>
            <translation>还不行：{missing}</translation>
        </message>
        <message>
            <source>Nothing is heard: {trouble}.</source>
            <translation>没有声音：{trouble}。</translation>
        </message>
        <message>
            <source>Nothing says under which licence it may be used.</source>
            <translation>没有说明可按何种许可使用。</translation>
        </message>
        <message>
            <source>Nothing to improve.</source>
            <translation>没有需要改进的地方。</translation>
        </message>
        <message>
            <source>Nudge</source>
            <translation>微移</translation>
        </message>
        <message>
            <source>Nudge it down</source>
            <translation>下移</translation>
        </message>
        <message>
            <source>Nudge it left</source>
            <translation>左移</translation>
        </message>
        <message>
            <source>Nudge it right</source>
            <translation>右移</translation>
        </message>
        <message>
            <source>Nudge the crop up</source>
            <translation>将裁剪上移</translation>
        </message>
        <message>
            <source>Occlusion</source>
            <translation>遮挡</translation>
        </message>
        <message>
            <source>Of the picture that calls and recordings get, in pixels.</source>
            <translation>通话和录像所得画面的大小（像素）。</translation>
        </message>
        <message>
            <source>Of the window's texts. A change takes effect at the app's next start.</source>
            <translation>窗口文字的语言。更改在应用下次启动时生效。</translation>
        </message>
        <message>
            <source>Offer call programs the microphone as late as the picture is, so that lips and voice agree. It is heard only while a program listens, and silent while you show the slate.</source>
            <translation>向通话程序提供与画面同样延迟的麦克风，使口型与声音一致。只有在程序收听时才会收音，显示待机画面期间静音。</translation>
        </message>
        <message>
            <source>On: {device}. Choose it in your call program.</source>
            <translation>已开启：{device}。请在通话程序中选择它。</translation>
        </message>
        <message>
            <source>One colour</source>
            <translation>单色</translation>
        </message>
        <message>
            <source>One moment: it is being read…</source>
            <translation>请稍候：正在读取…</translation>
        </message>
        <message>
            <source>Open</source>
            <translation>打开</translation>
        </message>
        <message>
            <source>Open OBS, press Start Virtual Camera once, allow the extension, press Stop, and restart this app</source>
            <translation>打开 OBS，点一次“启动虚拟摄像机”，允许该扩展，停止后重启本应用</translation>
        </message>
        <message>
            <source>Open folder</source>
            <translation>打开文件夹</translation>
        </message>
        <message>
            <source>Open what is written about this model</source>
            <translation>打开该模型的说明</translation>
        </message>
        <message>
            <source>OpenCV does not load: {error}; on Debian or Ubuntu: apt-get install libgl1 libglib2.0-0 libxcb1</source>
            <translation>OpenCV 无法加载：{error}；在 Debian 或 Ubuntu 上：apt-get install libgl1 libglib2.0-0 libxcb1</translation>
        </message>
        <message>
            <source>OpenVINO alone knows it, and backend {backend} was chosen; use backend auto, or bf16 or fp32</source>
            <translation>只有 OpenVINO 支持它，但选择了后端 {backend}；请使用后端 auto，或 bf16 或 fp32</translation>
        </message>
        <message>
            <source>OpenVINO computes on CPUs and Intel GPUs only, and {device} was chosen</source>
            <translation>OpenVINO 只在 CPU 和 Intel GPU 上计算，但选择了 {device}</translation>
        </message>
        <message>
            <source>OpenVINO finds no Intel GPU: there is none, or its driver for computing (OpenCL) is missing</source>
            <translation>OpenVINO 找不到 Intel GPU：没有该 GPU，或缺少其计算驱动程序（OpenCL）</translation>
        </message>
        <message>
            <source>OpenVINO knows no GPU on macOS (device mps is Apple's)</source>
            <translation>OpenVINO 在 macOS 上不支持 GPU（Apple 的设备是 mps）</translation>
        </message>
        <message>
            <source>OpenVINO was measured on x86-64 CPUs only, and this is {machine}</source>
            <translation>OpenVINO 只在 x86-64 CPU 上测量过，而这里是 {machine}</translation>
        </message>
        <message>
            <source>Opening…</source>
            <translation>正在打开…</translation>
        </message>
        <message>
            <source>Other programs</source>
            <translation>其他程序</translation>
        </message>
        <message>
            <source>Output and computer</source>
            <translation>输出和计算机</translation>
        </message>
        <message>
            <source>Output preview</source>
            <translation>输出预览</translation>
        </message>
        <message>
            <source>Output rate</source>
            <translation>输出帧率</translation>
        </message>
        <message>
            <source>Output size</source>
            <translation>输出尺寸</translation>
        </message>
        <message>
            <source>Overlay</source>
            <translation>叠加</translation>
        </message>
        <message>
            <source>PREVIEW</source>
            <translation>预览</translation>
        </message>
        <message>
            <source>Panic key</source>
            <translation>紧急按键</translation>
        </message>
        <message>
            <source>Parts of expression</source>
            <translation>表情的各部分</translation>
        </message>
        <message>
            <source>Parts of motion</source>
            <translation>动作的各部分</translation>
        </message>
        <message>
            <source>Paste a picture</source>
            <translation>粘贴图片</translation>
        </message>
        <message>
            <source>Pause the preview</source>
            <translation>暂停预览</translation>
        </message>
        <message>
            <source>Pick one on the left, or add a picture of yours</source>
            <translation>请在左侧选择一个，或添加您自己的图片</translation>
        </message>
        <message>
            <source>Picture</source>
            <translation>图片</translation>
        </message>
        <message>
            <source>Pictures ({endings});;All files (*)</source>
            <translation>图片 ({endings});;所有文件 (*)</translation>
        </message>
        <message>
            <source>PipeWire camera {detail}: got a picture of {shape}, expected {expected}</source>
            <translation>PipeWire 摄像头 {detail}：画面为 {shape}，应为 {expected}</translation>
        </message>
        <message>
            <source>PipeWire did not answer within {seconds:g} s</source>
            <translation>PipeWire 在 {seconds:g} 秒内没有响应</translation>
        </message>
        <message>
            <source>PipeWire did not answer within {seconds} s</source>
            <translation>PipeWire 在 {seconds} 秒内没有响应</translation>
        </message>
        <message>
            <source>PipeWire does not run: {error}</source>
            <translation>PipeWire 未运行：{error}</translation>
        </message>
        <message>
            <source>PipeWire has ended</source>
            <translation>PipeWire 已结束</translation>
        </message>
        <message>
            <source>PipeWire has failed: {said}</source>
            <translation>PipeWire 出错：{said}</translation>
        </message>
        <message>
            <source>PipeWire has refused the camera: {error}</source>
            <translation>PipeWire 拒绝了摄像头：{error}</translation>
        </message>
        <message>
            <source>PipeWire has refused the microphone: {error}</source>
            <translation>PipeWire 拒绝了麦克风：{error}</translation>
        </message>
        <message>
            <source>PipeWire has refused to hear the microphone: {error}</source>
            <translation>PipeWire 拒绝监听麦克风：{error}</translation>
        </message>
        <message>
            <source>PipeWire is installed, but does not run: nothing listens at {socket}.</source>
            <translation>PipeWire 已安装，但未运行：{socket} 没有响应。</translation>
        </message>
        <message>
            <source>PipeWire is not installed.</source>
            <translation>未安装 PipeWire。</translation>
        </message>
        <message>
            <source>PipeWire makes no node (error {number})</source>
            <translation>PipeWire 没有创建节点（错误 {number}）</translation>
        </message>
        <message>
            <source>PipeWire runs, but cannot be used: {error}.</source>
            <translation>PipeWire 正在运行，但无法使用：{error}。</translation>
        </message>
        <message>
            <source>PipeWire runs, but you may not use it ({socket}).</source>
            <translation>PipeWire 正在运行，但您无权使用（{socket}）。</translation>
        </message>
        <message>
            <source>PipeWire {version} runs, but without a session manager: no program would reach the camera.</source>
            <translation>PipeWire {version} 正在运行，但没有会话管理器：没有程序能访问该摄像头。</translation>
        </message>
        <message>
            <source>PipeWire {version} with {manager} can have the camera {name}, without a kernel module.</source>
            <translation>PipeWire {version} 与 {manager} 可提供摄像头 {name}，无需内核模块。</translation>
        </message>
        <message>
            <source>PipeWire's daemon cannot be reached; start it: systemctl --user start pipewire</source>
            <translation>无法连接 PipeWire 服务；请启动它：systemctl --user start pipewire</translation>
        </message>
        <message>
            <source>PipeWire's library cannot be loaded ({error}); install PipeWire</source>
            <translation>无法加载 PipeWire 的库（{error}）；请安装 PipeWire</translation>
        </message>
        <message>
            <source>PipeWire's library cannot be used: its settings or plug-ins are missing; install PipeWire</source>
            <translation>无法使用 PipeWire 的库：缺少其设置或插件；请安装 PipeWire</translation>
        </message>
        <message>
            <source>PipeWire's library cannot be used: its thread does not start</source>
            <translation>无法使用 PipeWire 的库：其线程未能启动</translation>
        </message>
        <message>
            <source>PipeWire's library is too old: it lacks {name}; update PipeWire</source>
            <translation>PipeWire 的库太旧：缺少 {name}；请更新 PipeWire</translation>
        </message>
        <message>
            <source>Play motion that was recorded before, in a loop, instead of a camera</source>
            <translation>循环播放以前录制的动作来代替摄像头</translation>
        </message>
        <message>
            <source>Port</source>
            <translation>端口</translation>
        </message>
        <message>
            <source>Port of control from outside</source>
            <translation>外部控制的端口</translation>
        </message>
        <message>
            <source>Portrait</source>
            <translation>肖像</translation>
        </message>
        <message>
            <source>Portrait over your picture: fainter</source>
            <translation>叠加在您画面上的肖像：更淡</translation>
        </message>
        <message>
            <source>Portrait over your picture: stronger</source>
            <translation>叠加在您画面上的肖像：更浓</translation>
        </message>
        <message>
            <source>Portrait size</source>
            <translation>肖像大小</translation>
        </message>
        <message>
            <source>Portraits</source>
            <translation>肖像</translation>
        </message>
        <message>
            <source>Pose</source>
            <translation>姿态</translation>
        </message>
        <message>
            <source>Preset</source>
            <translation>预设</translation>
        </message>
        <message>
            <source>Previous portrait</source>
            <translation>上一个肖像</translation>
        </message>
        <message>
            <source>Processor</source>
            <translation>处理器</translation>
        </message>
        <message>
            <source>Programs that show the token can control this window on port {port}.</source>
            <translation>出示令牌的程序可以通过端口 {port} 控制此窗口。</translation>
        </message>
        <message>
            <source>Put recordings and snapshots elsewhere</source>
            <translation>将录像和快照保存到别处</translation>
        </message>
        <message>
            <source>Put the crop back where the face is</source>
            <translation>让裁剪回到人脸处</translation>
        </message>
        <message>
            <source>Put the first steps away; they come back under Window</source>
            <translation>收起入门步骤；可在“窗口”中恢复</translation>
        </message>
        <message>
            <source>Put the portrait back in the middle, in its usual size (a double click on the preview)</source>
            <translation>将肖像放回中间并恢复通常大小（也可双击预览）</translation>
        </message>
        <message>
            <source>Put this message away</source>
            <translation>关闭此消息</translation>
        </message>
        <message>
            <source>Qt's part for sound cannot be loaded ({error}); {remedy}</source>
            <translation>无法加载 Qt 的声音组件（{error}）；{remedy}</translation>
        </message>
        <message>
            <source>Quit</source>
            <translation>退出</translation>
        </message>
        <message>
            <source>Rate</source>
            <translation>帧率</translation>
        </message>
        <message>
            <source>Read its card</source>
            <translation>阅读说明卡</translation>
        </message>
        <message>
            <source>Recheck</source>
            <translation>重新检查</translation>
        </message>
        <message>
            <source>Record</source>
            <translation>录制</translation>
        </message>
        <message>
            <source>Record my microphone</source>
            <translation>录制我的麦克风</translation>
        </message>
        <message>
            <source>Record my motion</source>
            <translation>录制我的动作</translation>
        </message>
        <message>
            <source>Record the output (V)</source>
            <translation>录制输出（V）</translation>
        </message>
        <message>
            <source>Record your motion, without pictures, to play it on any portrait later</source>
            <translation>只录制您的动作而不录画面，以后可用于任何肖像</translation>
        </message>
        <message>
            <source>Record, or capture the window with your call program</source>
            <translation>请录制，或在通话程序中共享此窗口</translation>
        </message>
        <message>
            <source>Recordings</source>
            <translation>录像</translation>
        </message>
        <message>
            <source>Recordings (WebM) and snapshots are transparent; the call sees this colour:</source>
            <translation>录像（WebM）和快照是透明的；通话看到的颜色：</translation>
        </message>
        <message>
            <source>Recordings and snapshots say, in a signed and standard way (C2PA), that AI generated them, and with which model; nothing of you. Others can read it, and can remove it.</source>
            <translation>录像和快照会以签名的标准方式（C2PA）注明由 AI 生成以及所用模型；不含您的任何信息。他人可以读取，也可以去除。</translation>
        </message>
        <message>
            <source>Refresh</source>
            <translation>刷新</translation>
        </message>
        <message>
            <source>Refresh cameras</source>
            <translation>刷新摄像头</translation>
        </message>
        <message>
            <source>Refresh microphones</source>
            <translation>刷新麦克风</translation>
        </message>
        <message>
            <source>Remember the calibration</source>
            <translation>记住校准</translation>
        </message>
        <message>
            <source>Remove</source>
            <translation>移除</translation>
        </message>
        <message>
            <source>Remove it</source>
            <translation>移除</translation>
        </message>
        <message>
            <source>Rename</source>
            <translation>重命名</translation>
        </message>
        <message>
            <source>Rename a portrait of yours</source>
            <translation>重命名您自己的肖像</translation>
        </message>
        <message>
            <source>Rename a preset</source>
            <translation>重命名预设</translation>
        </message>
        <message>
            <source>Rename…</source>
            <translation>重命名…</translation>
        </message>
        <message>
            <source>Reset the place</source>
            <translation>重置位置</translation>
        </message>
        <message>
            <source>Rests still</source>
            <translation>静止不动</translation>
        </message>
        <message>
            <source>SLATE</source>
            <translation>待机画面</translation>
        </message>
        <message>
            <source>STANDBY</source>
            <translation>待命</translation>
        </message>
        <message>
            <source>STARTING</source>
            <translation>启动中</translation>
        </message>
        <message>
            <source>Save</source>
            <translation>保存</translation>
        </message>
        <message>
            <source>Save a picture of the output</source>
            <translation>保存一张输出画面</translation>
        </message>
        <message>
            <source>Save a picture of the output (P)</source>
            <translation>保存一张输出画面（P）</translation>
        </message>
        <message>
            <source>Save a preset</source>
            <translation>保存预设</translation>
        </message>
        <message>
            <source>Save as…</source>
            <translation>另存为…</translation>
        </message>
        <message>
            <source>Saved: {path}</source>
            <translation>已保存：{path}</translation>
        </message>
        <message>
            <source>Says in the picture that it is synthetic. Please leave it on when others watch.</source>
            <translation>在画面中注明它是合成的。有他人观看时请保持开启。</translation>
        </message>
        <message>
            <source>Scene</source>
            <translation>场景</translation>
        </message>
        <message>
            <source>Score of the portrait</source>
            <translation>肖像评分</translation>
        </message>
        <message>
            <source>Score {score} of 100</source>
            <translation>评分 {score}/100</translation>
        </message>
        <message>
            <source>Score {score} of 100: {remarks}</source>
            <translation>评分 {score}/100：{remarks}</translation>
        </message>
        <message>
            <source>Secure Boot is on: if modprobe says that the key was rejected, enrol the key that signs the module, restart, and confirm it in the blue menu</source>
            <translation>安全启动已开启：如果 modprobe 提示密钥被拒绝，请登记为该模块签名的密钥，重启，并在蓝色菜单中确认</translation>
        </message>
        <message>
            <source>See and adjust the crop</source>
            <translation>查看并调整裁剪</translation>
        </message>
        <message>
            <source>See which program it is, and close it</source>
            <translation>查看是哪个程序，并关闭它</translation>
        </message>
        <message>
            <source>Settings &gt; Privacy &amp; security &gt; Camera</source>
            <translation>设置 &gt; 隐私和安全性 &gt; 摄像头</translation>
        </message>
        <message>
            <source>Sharpness</source>
            <translation>锐度</translation>
        </message>
        <message>
            <source>Shift</source>
            <translation>平移</translation>
        </message>
        <message>
            <source>Shoulders, hair and the room are seen as far as the photo shows them, not the portrait's square alone.</source>
            <translation>照片中的肩膀、头发和房间都会显示出来,而不只是肖像的方形区域。</translation>
        </message>
        <message>
            <source>Show below what is measured (I).</source>
            <translation>在下方显示测量值（I）。</translation>
        </message>
        <message>
            <source>Show me the output as in a mirror (R), but for the badge; the call sees it unchanged.</source>
            <translation>像照镜子一样显示输出（R），标识除外；通话看到的画面不变。</translation>
        </message>
        <message>
            <source>Show my camera picture</source>
            <translation>显示我的摄像头画面</translation>
        </message>
        <message>
            <source>Show no face at once (0; from a dialog Ctrl+0)</source>
            <translation>立即不显示人脸（0；在对话框中按 Ctrl+0）</translation>
        </message>
        <message>
            <source>Show or hide my camera picture</source>
            <translation>显示或隐藏我的摄像头画面</translation>
        </message>
        <message>
            <source>Show the avatar in the preview again (G)</source>
            <translation>在预览中重新显示虚拟形象（G）</translation>
        </message>
        <message>
            <source>Show the avatar to the call (G)</source>
            <translation>向通话显示虚拟形象（G）</translation>
        </message>
        <message>
            <source>Show the checklist of the first launch.</source>
            <translation>显示首次启动的清单。</translation>
        </message>
        <message>
            <source>Show the controls here</source>
            <translation>在此显示控制</translation>
        </message>
        <message>
            <source>Show the folder of recordings and snapshots</source>
            <translation>显示录像和快照的文件夹</translation>
        </message>
        <message>
            <source>Show the next step</source>
            <translation>显示下一步</translation>
        </message>
        <message>
            <source>Show the portraits here</source>
            <translation>在此显示肖像</translation>
        </message>
        <message>
            <source>Show the slate without a picture again</source>
            <translation>让待机画面恢复为无图片</translation>
        </message>
        <message>
            <source>Show the whole photo</source>
            <translation>显示整张照片</translation>
        </message>
        <message>
            <source>Show what the network does with your motion (N).</source>
            <translation>显示网络如何处理您的动作（N）。</translation>
        </message>
        <message>
            <source>Show window</source>
            <translation>显示窗口</translation>
        </message>
        <message>
            <source>Shows the portrait's own pores and hairs, which the network leaves out, as far as its picture has the pixels. It takes some milliseconds per picture: switch it off if the avatar stutters.</source>
            <translation>显示网络所忽略的肖像自身的毛孔和发丝，精细程度取决于图片的像素。每帧画面需要几毫秒：如果虚拟形象卡顿，请将其关闭。</translation>
        </message>
        <message>
            <source>Shows the slate from every window: press the key that you want, such as Ctrl+Alt+0.</source>
            <translation>在任何窗口中显示待机画面：请按下想用的按键，例如 Ctrl+Alt+0。</translation>
        </message>
        <message>
            <source>Sideways</source>
            <translation>左右</translation>
        </message>
        <message>
            <source>Silent while you show the slate.</source>
            <translation>显示待机画面期间静音。</translation>
        </message>
        <message>
            <source>Size</source>
            <translation>尺寸</translation>
        </message>
        <message>
            <source>Slate</source>
            <translation>待机画面</translation>
        </message>
        <message>
            <source>Slate at once: the call sees no face</source>
            <translation>立即显示待机画面：通话看不到人脸</translation>
        </message>
        <message>
            <source>Slate key</source>
            <translation>待机按键</translation>
        </message>
        <message>
            <source>Slate says</source>
            <translation>文字</translation>
        </message>
        <message>
            <source>Slate's picture…</source>
            <translation>待机画面图片…</translation>
        </message>
        <message>
            <source>Smoothing</source>
            <translation>平滑</translation>
        </message>
        <message>
            <source>Snapshot</source>
            <translation>快照</translation>
        </message>
        <message>
            <source>Something unexpected went wrong ({key}): {error}.</source>
            <translation>发生意外问题（{key}）：{error}。</translation>
        </message>
        <message>
            <source>Something unexpected went wrong in the window: {kind}: {error}. The log tells more.</source>
            <translation>窗口发生意外问题：{kind}：{error}。详情见日志。</translation>
        </message>
        <message>
            <source>Sound</source>
            <translation>声音</translation>
        </message>
        <message>
            <source>Speak as you will in the recording: the bar should reach the middle, and not turn red.</source>
            <translation>请像录制时那样说话：电平条应到达中间，且不变红。</translation>
        </message>
        <message>
            <source>Speed here: not measured yet</source>
            <translation>本机速度：尚未测量</translation>
        </message>
        <message>
            <source>Speed here: {frame_ms:.3g} ms per frame, measured</source>
            <translation>本机速度：每帧 {frame_ms:.3g} ms（实测）</translation>
        </message>
        <message>
            <source>Square to animate</source>
            <translation>要驱动的方框</translation>
        </message>
        <message>
            <source>Standard</source>
            <translation>标准</translation>
        </message>
        <message>
            <source>Start PipeWire again</source>
            <translation>请重新启动 PipeWire</translation>
        </message>
        <message>
            <source>Start again</source>
            <translation>重新开始</translation>
        </message>
        <message>
            <source>Start as usual</source>
            <translation>照常启动</translation>
        </message>
        <message>
            <source>Start it, now and at every login</source>
            <translation>立即启动，并在每次登录时启动</translation>
        </message>
        <message>
            <source>Start or stop the recording</source>
            <translation>开始或停止录制</translation>
        </message>
        <message>
            <source>Start safely</source>
            <translation>安全启动</translation>
        </message>
        <message>
            <source>Start the app as the user who is logged in, and not with sudo</source>
            <translation>请以登录用户的身份启动应用，不要使用 sudo</translation>
        </message>
        <message>
            <source>Statistics</source>
            <translation>统计</translation>
        </message>
        <message>
            <source>Status</source>
            <translation>状态</translation>
        </message>
        <message>
            <source>Step {number}, {title}: {state}. {text}</source>
            <translation>第 {number} 步，{title}：{state}。{text}</translation>
        </message>
        <message>
            <source>Step {step} of {steps}</source>
            <translation>第 {step} 步，共 {steps} 步</translation>
        </message>
        <message>
            <source>Still learning: step unknown</source>
            <translation>仍在学习：步数未知</translation>
        </message>
        <message>
            <source>Still learning: step {step}</source>
            <translation>仍在学习：第 {step} 步</translation>
        </message>
        <message>
            <source>Still learning: step {step} of {of}</source>
            <translation>仍在学习：第 {step} 步，共 {of} 步</translation>
        </message>
        <message>
            <source>Stop</source>
            <translation>停止</translation>
        </message>
        <message>
            <source>Stop everything and quit</source>
            <translation>全部停止并退出</translation>
        </message>
        <message>
            <source>Stop painting it, as saves power; the call and recordings go on.</source>
            <translation>停止绘制以节省电量；通话和录像继续。</translation>
        </message>
        <message>
            <source>Stop recording</source>
            <translation>停止录制</translation>
        </message>
        <message>
            <source>Stop recording my motion</source>
            <translation>停止录制我的动作</translation>
        </message>
        <message>
            <source>Stop the virtual camera in OBS</source>
            <translation>请停止 OBS 中的虚拟摄像机</translation>
        </message>
        <message>
            <source>Straighten</source>
            <translation>校正倾斜</translation>
        </message>
        <message>
            <source>Strengths of motion and expression, with all their parts, by name. Each portrait remembers its own.</source>
            <translation>动作和表情及其各部分的强度，按名称保存。每个肖像都会记住自己的强度。</translation>
        </message>
        <message>
            <source>Switch on</source>
            <translation>开启</translation>
        </message>
        <message>
            <source>Switch the virtual camera off first: a call keeps what it began with.</source>
            <translation>请先关闭虚拟摄像头：通话期间保持开始时的设置。</translation>
        </message>
        <message>
            <source>Switch the virtual camera off first: no model runs.</source>
            <translation>请先关闭虚拟摄像头：没有模型在运行。</translation>
        </message>
        <message>
            <source>System</source>
            <translation>系统</translation>
        </message>
        <message>
            <source>System Settings &gt; Privacy &amp; Security &gt; Camera</source>
            <translation>系统设置 &gt; 隐私与安全性 &gt; 摄像头</translation>
        </message>
        <message>
            <source>Take this picture of yours out of the gallery (Delete)</source>
            <translation>将您的这张图片移出图库（Delete）</translation>
        </message>
        <message>
            <source>Text of the slate</source>
            <translation>待机画面的文字</translation>
        </message>
        <message>
            <source>The address that the camera's app shows, such as http://192.168.1.20:8080/video or rtsp://192.168.1.20/live.
If it wants a password: http://USER:PASSWORD@192.168.1.20:8080/video</source>
            <translation>摄像头应用显示的地址，例如 http://192.168.1.20:8080/video 或 rtsp://192.168.1.20/live。
如果需要密码：http://USER:PASSWORD@192.168.1.20:8080/video</translation>
        </message>
        <message>
            <source>The app did not end in order last time: it crashed or was killed.</source>
            <translation>上次应用没有正常结束：它崩溃了或被强制结束。</translation>
        </message>
        <message>
            <source>The avatar keeps its own face and looks where you look, however you were turned at the calibration.</source>
            <translation>虚拟形象保持自己的面容，并看向您所看的方向，与校准时的朝向无关。</translation>
        </message>
        <message>
            <source>The avatar moves as you move in the picture since the calibration: the paper's way.</source>
            <translation>虚拟形象按您自校准以来在画面中的动作而动：即论文的方式。</translation>
        </message>
        <message>
            <source>The avatar takes your very pose and face: for a portrait of yourself.</source>
            <translation>虚拟形象完全采用您的姿态和面部：适合您本人的肖像。</translation>
        </message>
        <message>
            <source>The background stays still behind the person, instead of moving along with the head.</source>
            <translation>背景在人物后方保持静止，而不随头部移动。</translation>
        </message>
        <message>
            <source>The brows raised and knit.</source>
            <translation>眉毛上扬和皱起。</translation>
        </message>
        <message>
            <source>The camera that sees you. Only the avatar leaves this app, never its picture.</source>
            <translation>拍摄您的摄像头。只有虚拟形象会离开本应用，摄像头画面绝不会。</translation>
        </message>
        <message>
            <source>The camera {name} is away ({error}). It comes back by itself.</source>
            <translation>摄像头 {name} 已断开（{error}）。它会自动恢复。</translation>
        </message>
        <message>
            <source>The card beside {name} is of other weights: do not trust what it says.</source>
            <translation>{name} 旁边的说明卡属于其他权重：请勿相信其内容。</translation>
        </message>
        <message>
            <source>The first nine portraits</source>
            <translation>前九个肖像</translation>
        </message>
        <message>
            <source>The folder {folder} does not answer: what goes there waits for it. Choose another folder under “Output and computer” if it stays so.</source>
            <translation>文件夹 {folder} 没有响应：要保存到那里的内容正在等待。如果一直如此，请在“输出和计算机”中选择另一个文件夹。</translation>
        </message>
        <message>
            <source>The head leant towards a shoulder.</source>
            <translation>头部向肩膀倾斜。</translation>
        </message>
        <message>
            <source>The head moved in the picture.</source>
            <translation>头部在画面中平移。</translation>
        </message>
        <message>
            <source>The head moved towards the camera and away from it.</source>
            <translation>头部靠近或远离摄像头。</translation>
        </message>
        <message>
            <source>The head raised and lowered.</source>
            <translation>头部抬起和低下。</translation>
        </message>
        <message>
            <source>The head turned to the sides.</source>
            <translation>头部左右转动。</translation>
        </message>
        <message>
            <source>The key is not heard: {why}.</source>
            <translation>无法接收该按键：{why}。</translation>
        </message>
        <message>
            <source>The language changes at the next start of the app.</source>
            <translation>语言将在应用下次启动时切换。</translation>
        </message>
        <message>
            <source>The microphone for calls is being made…</source>
            <translation>正在创建通话麦克风…</translation>
        </message>
        <message>
            <source>The microphone is being opened…</source>
            <translation>正在打开麦克风…</translation>
        </message>
        <message>
            <source>The model has given no picture for a while, so the output shows the slate. It goes on by itself once there is one; if it stays so, start again.</source>
            <translation>模型已有一段时间没有给出画面，因此输出显示待机画面。一旦有画面就会自动继续；若一直如此，请重新开始。</translation>
        </message>
        <message>
            <source>The model's card</source>
            <translation>模型的说明卡</translation>
        </message>
        <message>
            <source>The network that animates the portrait: the bundled one, or a file or folder of yours.</source>
            <translation>驱动肖像的网络：自带的，或您自己的文件或文件夹。</translation>
        </message>
        <message>
            <source>The one chosen before</source>
            <translation>之前选择的</translation>
        </message>
        <message>
            <source>The output shows the slate.</source>
            <translation>输出显示待机画面。</translation>
        </message>
        <message>
            <source>The picture is that late. Set this delay for your microphone (OBS: Advanced audio properties, sync offset) and lips and sound agree.</source>
            <translation>画面会延迟这么多。为麦克风设置同样的延迟（OBS：高级音频属性，同步偏移），口型与声音即可一致。</translation>
        </message>
        <message>
            <source>The portrait over your picture (Z and C); for motion in the plane, to line up the pose.</source>
            <translation>叠加在您画面上的肖像（Z 和 C）；用于平面模式下对齐姿态。</translation>
        </message>
        <message>
            <source>The portrait {first} is not in the gallery any more; {name} is used.</source>
            <translation>图库中已没有肖像 {first}；改用 {name}。</translation>
        </message>
        <message>
            <source>The portrait's own, blurred</source>
            <translation>肖像自身的背景，模糊</translation>
        </message>
        <message>
            <source>The portrait's own, still</source>
            <translation>肖像自身的背景，静止</translation>
        </message>
        <message>
            <source>The portrait, moved and nothing else</source>
            <translation>仅经过移动的肖像</translation>
        </message>
        <message>
            <source>The preset {name} has these strengths now.</source>
            <translation>预设 {name} 现为这些强度。</translation>
        </message>
        <message>
            <source>The preset {name} was deleted.</source>
            <translation>已删除预设 {name}。</translation>
        </message>
        <message>
            <source>The presets could not be read ({error}). There are none for now; {kept}.</source>
            <translation>无法读取预设（{error}）。暂时没有预设；{kept}。</translation>
        </message>
        <message>
            <source>The preview is paused; the output goes on.</source>
            <translation>预览已暂停；输出继续。</translation>
        </message>
        <message>
            <source>The recording goes on without sound, which failed ({error}). For sound, begin another one.</source>
            <translation>声音出错（{error}），录制在无声状态下继续。如需声音，请重新开始录制。</translation>
        </message>
        <message>
            <source>The recording had not begun: there is no file.</source>
            <translation>录制尚未开始：没有文件。</translation>
        </message>
        <message>
            <source>The recording has no sound, since its encoder cannot be opened ({error}). Install the app again.</source>
            <translation>录像没有声音，因为无法打开音频编码器（{error}）。请重新安装应用。</translation>
        </message>
        <message>
            <source>The recording of your motion ended: {why}.</source>
            <translation>动作录制已结束：{why}。</translation>
        </message>
        <message>
            <source>The same, from a dialog for files or colours too</source>
            <translation>同上，在文件或颜色对话框中也可使用</translation>
        </message>
        <message>
            <source>The settings could not be read ({error}). Defaults are in use; {kept}.</source>
            <translation>无法读取设置（{error}）。正在使用默认值；{kept}。</translation>
        </message>
        <message>
            <source>The slate cannot show {characters}. Leave that out, or choose a picture that shows it for the slate.</source>
            <translation>待机画面无法显示 {characters}。请去掉它，或选择包含它的待机画面图片。</translation>
        </message>
        <message>
            <source>The slate key is not heard: {why}.</source>
            <translation>无法接收待机按键：{why}。</translation>
        </message>
        <message>
            <source>The system does not let this app use the camera. Allow it in System Settings, Privacy.</source>
            <translation>系统不允许本应用使用摄像头。请在系统设置的“隐私”中允许。</translation>
        </message>
        <message>
            <source>The system is asked for the key…</source>
            <translation>正在向系统请求该按键…</translation>
        </message>
        <message>
            <source>The system's usual one</source>
            <translation>系统默认</translation>
        </message>
        <message>
            <source>The virtual camera {called} does not answer ({cause}).</source>
            <translation>虚拟摄像头 {called} 没有响应（{cause}）。</translation>
        </message>
        <message>
            <source>The virtual camera {called} is in use by another program.</source>
            <translation>虚拟摄像头 {called} 正被其他程序使用。</translation>
        </message>
        <message>
            <source>The virtual camera {called} is in use by {by}.</source>
            <translation>虚拟摄像头 {called} 正被 {by} 使用。</translation>
        </message>
        <message>
            <source>The virtual camera {called} is ready, but Chrome and Teams will not list it (exclusive_caps=0).</source>
            <translation>虚拟摄像头 {called} 已就绪，但 Chrome 和 Teams 不会列出它（exclusive_caps=0）。</translation>
        </message>
        <message>
            <source>The virtual camera {called} is ready.</source>
            <translation>虚拟摄像头 {called} 已就绪。</translation>
        </message>
        <message>
            <source>The virtual camera {called} is there, but you may not use it.</source>
            <translation>虚拟摄像头 {called} 存在，但您无权使用。</translation>
        </message>
        <message>
            <source>The virtual camera {called} takes our pictures.</source>
            <translation>虚拟摄像头 {called} 正在接收我们的画面。</translation>
        </message>
        <message>
            <source>The virtual camera {name} is ready.</source>
            <translation>虚拟摄像头 {name} 已就绪。</translation>
        </message>
        <message>
            <source>The {camera} is in use: OBS itself or another program writes to it.</source>
            <translation>{camera} 正在使用中：OBS 本身或其他程序正向它写入。</translation>
        </message>
        <message>
            <source>The {camera} is installed, but you have not approved it yet.</source>
            <translation>{camera} 已安装，但您尚未批准。</translation>
        </message>
        <message>
            <source>The {camera} is ready.</source>
            <translation>{camera} 已就绪。</translation>
        </message>
        <message>
            <source>Theme</source>
            <translation>主题</translation>
        </message>
        <message>
            <source>There is no face in this square of {name}: move the square over a face that looks towards the camera, or choose the automatic crop.</source>
            <translation>{name} 的这个方框内没有人脸：请把方框移到朝向摄像头的人脸上，或选择自动裁剪。</translation>
        </message>
        <message>
            <source>There is no folder {folder} to open yet: it is made with the first recording or snapshot.</source>
            <translation>文件夹 {folder} 还不存在：它会在第一次录像或快照时创建。</translation>
        </message>
        <message>
            <source>There is no picture in the clipboard: copy one first.</source>
            <translation>剪贴板中没有图片：请先复制一张。</translation>
        </message>
        <message>
            <source>There is no picture in the folder {folder}: choose one that has some.</source>
            <translation>文件夹 {folder} 中没有图片：请选择有图片的文件夹。</translation>
        </message>
        <message>
            <source>There is no picture yet to save.</source>
            <translation>还没有可保存的画面。</translation>
        </message>
        <message>
            <source>There is no virtual camera at {device}: got {what}, expected a device of v4l2loopback.</source>
            <translation>{device} 处没有虚拟摄像头：那里是{what}，应为 v4l2loopback 设备。</translation>
        </message>
        <message>
            <source>There is no virtual camera for {system}: expected Linux, Windows or macOS.</source>
            <translation>{system} 没有虚拟摄像头：应为 Linux、Windows 或 macOS。</translation>
        </message>
        <message>
            <source>There is no virtual camera in a safe start: start the app again.</source>
            <translation>安全启动时没有虚拟摄像头：请重新启动应用。</translation>
        </message>
        <message>
            <source>There is no virtual camera {device}: expected {camera} or UnityCapture's.</source>
            <translation>没有虚拟摄像头 {device}：应为 {camera} 或 UnityCapture 的摄像头。</translation>
        </message>
        <message>
            <source>There is no virtual camera {device}: expected {camera}.</source>
            <translation>没有虚拟摄像头 {device}：应为 {camera}。</translation>
        </message>
        <message>
            <source>There is no virtual camera: OBS Studio brings one.</source>
            <translation>没有虚拟摄像头：OBS Studio 自带一个。</translation>
        </message>
        <message>
            <source>There is no virtual camera: OBS is installed, its camera not yet ({camera}).</source>
            <translation>没有虚拟摄像头：OBS 已安装，但其摄像头尚未安装（{camera}）。</translation>
        </message>
        <message>
            <source>There is no virtual camera: got macOS {release}, expected 13 or newer.</source>
            <translation>没有虚拟摄像头：当前为 macOS {release}，应为 13 或更高版本。</translation>
        </message>
        <message>
            <source>There is no virtual camera: v4l2loopback is installed, but not loaded.</source>
            <translation>没有虚拟摄像头：v4l2loopback 已安装，但未加载。</translation>
        </message>
        <message>
            <source>There is no virtual camera: v4l2loopback is not installed for the kernel {kernel}.</source>
            <translation>没有虚拟摄像头：尚未为内核 {kernel} 安装 v4l2loopback。</translation>
        </message>
        <message>
            <source>There is nothing to record at the moment: wait until the preview goes on.</source>
            <translation>目前没有可录制的内容：请等待预览继续。</translation>
        </message>
        <message>
            <source>This is a safe start: the processor computes, there is no virtual camera, and all settings are the defaults. Nothing of them is kept; your own are back with the next start.</source>
            <translation>这是安全启动：由处理器计算，没有虚拟摄像头，所有设置均为默认值。这些都不会保存；下次启动时恢复您自己的设置。</translation>
        </message>
        <message>
            <source>This is only the address of a picture: copy the picture itself, or save it and add the file.</source>
            <translation>这只是图片的地址：请复制图片本身，或保存后添加文件。</translation>
        </message>
        <message>
            <source>This list</source>
            <translation>此列表</translation>
        </message>
        <message>
            <source>This portrait's own</source>
            <translation>此肖像自己的</translation>
        </message>
        <message>
            <source>Tick first that you may use this picture</source>
            <translation>请先勾选您有权使用这张图片</translation>
        </message>
        <message>
            <source>Tilt</source>
            <translation>倾斜</translation>
        </message>
        <message>
            <source>Trying again in {seconds} s.</source>
            <translation>{seconds} 秒后重试。</translation>
        </message>
        <message>
            <source>Turn</source>
            <translation>转头</translation>
        </message>
        <message>
            <source>Turn to the left</source>
            <translation>向左旋转</translation>
        </message>
        <message>
            <source>Turn to the left by a quarter (Page Up)</source>
            <translation>向左旋转四分之一圈（Page Up）</translation>
        </message>
        <message>
            <source>Turn to the right</source>
            <translation>向右旋转</translation>
        </message>
        <message>
            <source>Turn to the right by a quarter (Page Down)</source>
            <translation>向右旋转四分之一圈（Page Down）</translation>
        </message>
        <message>
            <source>Turns the picture a little (comma and full stop).</source>
            <translation>稍微旋转图片（逗号和句号）。</translation>
        </message>
        <message>
            <source>Undo</source>
            <translation>撤销</translation>
        </message>
        <message>
            <source>Up and down</source>
            <translation>上下</translation>
        </message>
        <message>
            <source>Update macOS</source>
            <translation>请更新 macOS</translation>
        </message>
        <message>
            <source>Use a video file…</source>
            <translation>使用视频文件…</translation>
        </message>
        <message>
            <source>Use a video, in a loop, instead of a camera</source>
            <translation>循环播放视频来代替摄像头</translation>
        </message>
        <message>
            <source>Use it all the same</source>
            <translation>仍然使用</translation>
        </message>
        <message>
            <source>Use this camera</source>
            <translation>使用此摄像头</translation>
        </message>
        <message>
            <source>Use this portrait</source>
            <translation>使用此肖像</translation>
        </message>
        <message>
            <source>Videos ({endings});;All files (*)</source>
            <translation>视频 ({endings});;所有文件 (*)</translation>
        </message>
        <message>
            <source>View</source>
            <translation>视图</translation>
        </message>
        <message>
            <source>Views</source>
            <translation>视图</translation>
        </message>
        <message>
            <source>Virtual camera</source>
            <translation>虚拟摄像头</translation>
        </message>
        <message>
            <source>Warped</source>
            <translation>变形</translation>
        </message>
        <message>
            <source>What is missing before going live</source>
            <translation>开始直播前还缺什么</translation>
        </message>
        <message>
            <source>What is missing, and what to do</source>
            <translation>缺少什么以及如何处理</translation>
        </message>
        <message>
            <source>What is seen around the portrait, or behind the person.</source>
            <translation>肖像周围或人物后方看到的内容。</translation>
        </message>
        <message>
            <source>What other programs have to show; keep it secret</source>
            <translation>其他程序必须出示的内容；请保密</translation>
        </message>
        <message>
            <source>What the avatar does while your face is lost, until the slate comes; it moves with measured keypoints.</source>
            <translation>在人脸丢失后到显示待机画面之前虚拟形象的动作；它以测量的关键点活动。</translation>
        </message>
        <message>
            <source>What the decoder makes of it, with the memory's help</source>
            <translation>解码器借助记忆生成的结果</translation>
        </message>
        <message>
            <source>What the marked place takes from the memory; click to mark another one</source>
            <translation>所标位置从记忆中取得的内容；点击可标记其他位置</translation>
        </message>
        <message>
            <source>What the network does inside</source>
            <translation>网络内部的运作</translation>
        </message>
        <message>
            <source>What the run has learned since cannot be used: {error}. What it had learned before goes on.</source>
            <translation>训练此后学到的内容无法使用：{error}。继续使用之前学到的内容。</translation>
        </message>
        <message>
            <source>What the slate says instead of “Camera is off” or “Be right back”; Enter keeps it.</source>
            <translation>待机画面上代替“Camera is off”或“Be right back”的文字；按 Enter 保存。</translation>
        </message>
        <message>
            <source>What to do</source>
            <translation>如何处理</translation>
        </message>
        <message>
            <source>What will be animated</source>
            <translation>将被驱动的内容</translation>
        </message>
        <message>
            <source>Where other programs ask; Enter keeps it. 0: any port that is free.</source>
            <translation>其他程序连接的端口；按 Enter 保存。0：任意空闲端口。</translation>
        </message>
        <message>
            <source>Where the eyes look.</source>
            <translation>眼睛看向哪里。</translation>
        </message>
        <message>
            <source>Where the model runs. Automatic: where it was measured to be fastest.</source>
            <translation>模型在哪里运行。自动：测得最快之处。</translation>
        </message>
        <message>
            <source>Where the portrait stands; it can be dragged in the preview.</source>
            <translation>肖像的位置；可在预览中拖动。</translation>
        </message>
        <message>
            <source>Where what is shown came from: the direction as a hue, 20 px and more in full colour</source>
            <translation>所显示内容的来源：以色相表示方向，20 px 及以上为最浓</translation>
        </message>
        <message>
            <source>Which keypoint's motion moves each place, by colour; dark: the background's</source>
            <translation>各处由哪个关键点带动，以颜色表示；深色：背景</translation>
        </message>
        <message>
            <source>While away</source>
            <translation>离开时</translation>
        </message>
        <message>
            <source>Whose sound recordings have, and calls that take the microphone for calls.</source>
            <translation>录像以及使用通话麦克风的通话采用谁的声音。</translation>
        </message>
        <message>
            <source>Window</source>
            <translation>窗口</translation>
        </message>
        <message>
            <source>Windows gives the key to this app</source>
            <translation>Windows 将该按键交给本应用</translation>
        </message>
        <message>
            <source>Without</source>
            <translation>不用图片</translation>
        </message>
        <message>
            <source>Yellow: the moved portrait is trusted; blue: the picture is generated</source>
            <translation>黄色：信任移动后的肖像；蓝色：画面是生成的</translation>
        </message>
        <message>
            <source>You are not asked to calibrate again before the same camera. What your face measures is kept on this computer for that, for your account alone; switched off, it is deleted.</source>
            <translation>对同一摄像头不再要求校准。为此，您面部的测量值会保存在这台计算机上，仅限您的账户；关闭后即删除。</translation>
        </message>
        <message>
            <source>You, as only you see yourself</source>
            <translation>只有您自己能看到的您</translation>
        </message>
        <message>
            <source>You, with the crop that moves the avatar. Nobody else sees this. Click for another size.</source>
            <translation>您的画面，以及带动虚拟形象的裁剪区域。其他人看不到。点击可改变大小。</translation>
        </message>
        <message>
            <source>Your own picture in the preview's corner (B). Hide it before you share this window.</source>
            <translation>预览角落里您自己的画面（B）。共享此窗口前请先隐藏。</translation>
        </message>
        <message>
            <source>Zoom</source>
            <translation>缩放</translation>
        </message>
        <message>
            <source>Zoom in on you</source>
            <translation>放大您的画面</translation>
        </message>
        <message>
            <source>Zoom out</source>
            <translation>缩小</translation>
        </message>
        <message>
            <source>a camera's number (0), a device (/dev/video0), a network camera's address (http://, rtsp://), a video or motion file, or a folder of pictures</source>
            <translation>摄像头编号（0）、设备（/dev/video0）、网络摄像头地址（http://、rtsp://）、视频或动作文件，或图片文件夹</translation>
        </message>
        <message>
            <source>a frame of the model takes {best}</source>
            <translation>模型每帧用时 {best}</translation>
        </message>
        <message>
            <source>a frame of the model takes {best} ({others})</source>
            <translation>模型每帧用时 {best}（{others}）</translation>
        </message>
        <message>
            <source>a further GPU</source>
            <translation>另一块 GPU</translation>
        </message>
        <message>
            <source>a list of whole numbers</source>
            <translation>整数列表</translation>
        </message>
        <message>
            <source>a motion file has no pictures in which this model could detect keypoints: choose a model and a portrait whose keypoints can be measured, as the starter and any portrait with a face</source>
            <translation>动作文件没有画面，此模型无法从中检测关键点：请选择可以测量关键点的模型和肖像，例如 starter 和任何有人脸的肖像</translation>
        </message>
        <message>
            <source>a motion file has no pictures, so that it moves the avatar in space only: choose that motion</source>
            <translation>动作文件没有画面，因此只能在空间模式下驱动虚拟形象：请选择该模式</translation>
        </message>
        <message>
            <source>a motion file takes no more than {hours} hours</source>
            <translation>动作文件最长为 {hours} 小时</translation>
        </message>
        <message>
            <source>a number of thousands of digits</source>
            <translation>一个数千位的数字</translation>
        </message>
        <message>
            <source>a picture becomes a portrait, a video the camera</source>
            <translation>图片成为肖像，视频代替摄像头</translation>
        </message>
        <message>
            <source>a portrait needs a name: got an empty one for {name}, so it keeps its own</source>
            <translation>肖像需要名称：{name} 的新名称为空，因此保留原名</translation>
        </message>
        <message>
            <source>a single number</source>
            <translation>单个数值</translation>
        </message>
        <message>
            <source>a table of values</source>
            <translation>值的表</translation>
        </message>
        <message>
            <source>about {rate_hz:.2g} frames per second are too slow for a call: close what else is running and press Measure under First steps, or use a computer with a GPU</source>
            <translation>每秒约 {rate_hz:.2g} 帧对通话来说太慢：请关闭其他程序并点击“入门步骤”中的“测量”，或使用带 GPU 的计算机</translation>
        </message>
        <message>
            <source>age</source>
            <translation>延迟</translation>
        </message>
        <message>
            <source>an AMD GPU</source>
            <translation>AMD GPU</translation>
        </message>
        <message>
            <source>an NVIDIA GPU</source>
            <translation>NVIDIA GPU</translation>
        </message>
        <message>
            <source>an empty file</source>
            <translation>空文件</translation>
        </message>
        <message>
            <source>an even width at {size_px} px (compensated)</source>
            <translation>{size_px} px 处为偶数宽度（有补偿）</translation>
        </message>
        <message>
            <source>an odd number</source>
            <translation>奇数</translation>
        </message>
        <message>
            <source>another camera is used now</source>
            <translation>现在使用的是另一个摄像头</translation>
        </message>
        <message>
            <source>another program has it, maybe another mcnet-avatar</source>
            <translation>已被其他程序占用，可能是另一个 mcnet-avatar</translation>
        </message>
        <message>
            <source>as asked</source>
            <translation>按要求</translation>
        </message>
        <message>
            <source>as measured</source>
            <translation>根据测量结果</translation>
        </message>
        <message>
            <source>as usual</source>
            <translation>默认文字</translation>
        </message>
        <message>
            <source>asked for {asked_hz:g} frames/s, gives {given_hz:g} (more light often helps)</source>
            <translation>要求 {asked_hz:g} 帧/秒，实际 {given_hz:g}（增加光线通常有帮助）</translation>
        </message>
        <message>
            <source>asked for {asked}, gives {given}</source>
            <translation>要求 {asked}，实际 {given}</translation>
        </message>
        <message>
            <source>at least two widths</source>
            <translation>至少两个宽度</translation>
        </message>
        <message>
            <source>at least {least}</source>
            <translation>至少 {least}</translation>
        </message>
        <message>
            <source>at most {most}</source>
            <translation>最多 {most}</translation>
        </message>
        <message>
            <source>avatar</source>
            <translation>虚拟形象</translation>
        </message>
        <message>
            <source>backend: OpenVINO failed: {failure}</source>
            <translation>后端：OpenVINO 失败：{failure}</translation>
        </message>
        <message>
            <source>backend: got 'cudagraph', but {device} was chosen, expected an NVIDIA GPU</source>
            <translation>后端：指定了“cudagraph”，但选择了 {device}；需要 NVIDIA GPU</translation>
        </message>
        <message>
            <source>backend: got 'cudagraph', but {reason}; use backend auto or torch</source>
            <translation>后端：指定了“cudagraph”，但{reason}；请使用后端 auto 或 torch</translation>
        </message>
        <message>
            <source>backend: got 'openvino', but {lack}; use backend torch (or auto), or mend that</source>
            <translation>后端：指定了“openvino”，但{lack}；请使用后端 torch（或 auto），或解决该问题</translation>
        </message>
        <message>
            <source>backend: got 'torch', but {device} was chosen, where OpenVINO alone computes: use backend auto, or another device</source>
            <translation>后端：指定了“torch”，但选择了 {device}，那里只有 OpenVINO 能计算：请使用后端 auto，或其他设备</translation>
        </message>
        <message>
            <source>backend: got {wanted}, expected one of {allowed}</source>
            <translation>后端：指定了 {wanted}，应为以下之一：{allowed}</translation>
        </message>
        <message>
            <source>backend: torch has to compute, but {lack}; or install OpenVINO, and use a CPU</source>
            <translation>后端：必须由 torch 计算，但{lack}；或安装 OpenVINO 并使用 CPU</translation>
        </message>
        <message>
            <source>background: {error}; expected own, blur, green, #rrggbb, alpha, or the file of a picture or a video</source>
            <translation>背景：{error}；应为 own、blur、green、#rrggbb、alpha，或图片或视频文件</translation>
        </message>
        <message>
            <source>because {lack}</source>
            <translation>原因：{lack}</translation>
        </message>
        <message>
            <source>blue</source>
            <translation>蓝色</translation>
        </message>
        <message>
            <source>calibration</source>
            <translation>校准</translation>
        </message>
        <message>
            <source>camera</source>
            <translation>摄像头</translation>
        </message>
        <message>
            <source>camera to model</source>
            <translation>摄像头到模型</translation>
        </message>
        <message>
            <source>camera {device}</source>
            <translation>摄像头 {device}</translation>
        </message>
        <message>
            <source>camera {name}</source>
            <translation>摄像头 {name}</translation>
        </message>
        <message>
            <source>camera: got an address that begins with {scheme}://, expected http://, https:// or rtsp://</source>
            <translation>摄像头：地址以 {scheme}:// 开头，应为 http://、https:// 或 rtsp://</translation>
        </message>
        <message>
            <source>camera: got an address that cannot be read, expected one such as {scheme}://192.168.1.20:8080/video; in a user name or password write / as %2F, @ as %40, # as %23 and ? as %3F</source>
            <translation>摄像头：地址无法读取，应类似 {scheme}://192.168.1.20:8080/video；用户名或密码中的 / 写作 %2F，@ 写作 %40，# 写作 %23，? 写作 %3F</translation>
        </message>
        <message>
            <source>camera: got nothing, expected {expected}</source>
            <translation>摄像头：未指定任何内容，应为{expected}</translation>
        </message>
        <message>
            <source>camera: got {asked} for size and rate, expected {least_px} to 8192 pixels per side and 1 to 240 frames/s, as @1280x720@30</source>
            <translation>摄像头：尺寸和帧率指定为 {asked}，应为每边 {least_px} 至 8192 像素、1 至 240 帧/秒，例如 @1280x720@30</translation>
        </message>
        <message>
            <source>camera: got {shown}, and there is no such file; expected {expected}</source>
            <translation>摄像头：指定了 {shown}，但没有这样的文件；应为{expected}</translation>
        </message>
        <message>
            <source>cannot keep the list of portraits in {folder}: {error}; check the disk</source>
            <translation>无法在 {folder} 中保存肖像列表：{error}；请检查磁盘</translation>
        </message>
        <message>
            <source>cannot keep the motion in {path}: got {count} frames without a face, expected one at least</source>
            <translation>无法将动作保存到 {path}：{count} 帧都没有人脸，至少应有一帧</translation>
        </message>
        <message>
            <source>cannot keep the motion in {path}: got {count} frames, expected at most {most}</source>
            <translation>无法将动作保存到 {path}：有 {count} 帧，最多 {most} 帧</translation>
        </message>
        <message>
            <source>cannot keep the motion in {path}: got {hours:.1f} hours, expected at most {most}</source>
            <translation>无法将动作保存到 {path}：时长 {hours:.1f} 小时，最长为 {most} 小时</translation>
        </message>
        <message>
            <source>cannot keep the motion in {path}: {why}</source>
            <translation>无法将动作保存到 {path}：{why}</translation>
        </message>
        <message>
            <source>cannot keep the token of control from outside in {place}: {why}</source>
            <translation>无法将外部控制的令牌保存到 {place}：{why}</translation>
        </message>
        <message>
            <source>cannot keep the {what} in {path}: {error}; check the folder's permissions</source>
            <translation>无法保存到 {path}（{what}）：{error}；请检查文件夹的权限</translation>
        </message>
        <message>
            <source>cannot keep this machine's signer in {path}: {why}</source>
            <translation>无法将本机的签名者保存到 {path}：{why}</translation>
        </message>
        <message>
            <source>cannot make a picture for a {suffix} file: got {type} of shape {shape}, expected uint8 of shape {shapes}, with one pixel at least</source>
            <translation>无法为 {suffix} 文件生成图片：收到形状为 {shape} 的 {type}，应为形状为 {shapes} 的 uint8，且至少有一个像素</translation>
        </message>
        <message>
            <source>cannot make a picture for a {suffix} file: got {width} x {height}, expected at most {most} pixels per side; make it smaller</source>
            <translation>无法为 {suffix} 文件生成图片：收到 {width} x {height}，每边最多应为 {most} 像素；请将其缩小</translation>
        </message>
        <message>
            <source>cannot make the folder for portraits {folder}: {error}; check the disk</source>
            <translation>无法创建肖像文件夹 {folder}：{error}；请检查磁盘</translation>
        </message>
        <message>
            <source>cannot make the folder {folder}: {cause}</source>
            <translation>无法创建文件夹 {folder}：{cause}</translation>
        </message>
        <message>
            <source>cannot open {path} at {fps_hz} frames/s: expected more than 0</source>
            <translation>无法以 {fps_hz} 帧/秒打开 {path}：应大于 0</translation>
        </message>
        <message>
            <source>cannot put the model on {device}: {cause}; use cpu</source>
            <translation>无法将模型放到 {device} 上：{cause}；请使用 cpu</translation>
        </message>
        <message>
            <source>cannot put {name} back: {error}; add the picture again</source>
            <translation>无法恢复 {name}：{error}；请重新添加该图片</translation>
        </message>
        <message>
            <source>cannot read the bundled network {path}: {cause}; reinstall the package</source>
            <translation>无法读取自带的网络 {path}：{cause}；请重新安装软件包</translation>
        </message>
        <message>
            <source>cannot read the list of portraits {path}: {error}; check its permissions</source>
            <translation>无法读取肖像列表 {path}：{error}；请检查其权限</translation>
        </message>
        <message>
            <source>cannot read the picture {path}: got a camera's raw data, expected {readable}; export it as JPEG</source>
            <translation>无法读取图片 {path}：这是相机的原始数据，应为 {readable}；请导出为 JPEG</translation>
        </message>
        <message>
            <source>cannot read the picture {path}: got a device, expected a file</source>
            <translation>无法读取图片 {path}：这是设备，应为文件</translation>
        </message>
        <message>
            <source>cannot read the picture {path}: got a folder, expected a file; name one of its files</source>
            <translation>无法读取图片 {path}：这是文件夹，应为文件；请指定其中一个文件</translation>
        </message>
        <message>
            <source>cannot read the picture {path}: got {what}, expected {readable}</source>
            <translation>无法读取图片 {path}：这是{what}，应为 {readable}</translation>
        </message>
        <message>
            <source>cannot read the picture {path}: it is damaged, cut short or of a kind that cannot be decoded ({said}); open it in a viewer and save it as JPEG, or take another</source>
            <translation>无法读取图片 {path}：它已损坏、不完整或属于无法解码的类型（{said}）；请在看图软件中打开并另存为 JPEG，或换一张</translation>
        </message>
        <message>
            <source>cannot read the picture {path}: {error}</source>
            <translation>无法读取图片 {path}：{error}</translation>
        </message>
        <message>
            <source>cannot read the picture {path}: {said}; check its permissions</source>
            <translation>无法读取图片 {path}：{said}；请检查其权限</translation>
        </message>
        <message>
            <source>cannot read the presets in {path}: they are of format {version}, this app knows formats up to {known}; use a newer app, or move the file away</source>
            <translation>无法读取 {path} 中的预设：其格式为 {version}，本应用支持到 {known}；请使用更新的应用，或将文件移走</translation>
        </message>
        <message>
            <source>cannot read the presets in {path}: {error}; check its permissions, or move it away</source>
            <translation>无法读取 {path} 中的预设：{error}；请检查其权限，或将文件移走</translation>
        </message>
        <message>
            <source>cannot read the settings in {path}: {error}; check its permissions, or move it away</source>
            <translation>无法读取 {path} 中的设置：{error}；请检查其权限，或将文件移走</translation>
        </message>
        <message>
            <source>cannot read the video {path}: got a folder, a device or a pipe, and a video is read more than once; save it as a file first</source>
            <translation>无法读取视频 {path}:它是文件夹、设备或管道,而视频要读取多次;请先将其保存为文件</translation>
        </message>
        <message>
            <source>cannot read the video {path}: got an empty file; export or download it again</source>
            <translation>无法读取视频 {path}：文件为空；请重新导出或下载</translation>
        </message>
        <message>
            <source>cannot read the video {path}: {said}; expected a video such as MP4, MOV or WebM</source>
            <translation>无法读取视频 {path}：{said}；应为 MP4、MOV 或 WebM 等视频</translation>
        </message>
        <message>
            <source>cannot read this machine's signer {path}: {why}</source>
            <translation>无法读取本机的签名者 {path}：{why}</translation>
        </message>
        <message>
            <source>cannot read {path}: got a device or a pipe, expected a file</source>
            <translation>无法读取 {path}:它是设备或管道,应为文件</translation>
        </message>
        <message>
            <source>cannot read {path}: {why}; check its name</source>
            <translation>无法读取 {path}：{why}；请检查其名称</translation>
        </message>
        <message>
            <source>cannot record to {path}: got suffix {suffix}, expected .mp4 or .webm</source>
            <translation>无法录制到 {path}：扩展名为 {suffix}，应为 .mp4 或 .webm</translation>
        </message>
        <message>
            <source>cannot record to {path}: the encoder {codec} cannot be opened for {width_px} x {height_px} ({cause}); choose another size, or install the app again</source>
            <translation>无法录制到 {path}：编码器 {codec} 无法以 {width_px} x {height_px} 打开（{cause}）；请选择其他尺寸，或重新安装应用</translation>
        </message>
        <message>
            <source>cannot record to {path}: there is no folder {parent}; make it first</source>
            <translation>无法录制到 {path}：没有文件夹 {parent}；请先创建</translation>
        </message>
        <message>
            <source>cannot record to {path}: {cause}</source>
            <translation>无法录制到 {path}：{cause}</translation>
        </message>
        <message>
            <source>cannot remove the token {place}: {why}</source>
            <translation>无法移除令牌 {place}：{why}</translation>
        </message>
        <message>
            <source>cannot remove {path}: {error}; check the folder's permissions</source>
            <translation>无法移除 {path}：{error}；请检查文件夹的权限</translation>
        </message>
        <message>
            <source>cannot say in {place} where the app listens: {why}</source>
            <translation>无法在 {place} 中注明应用的监听位置：{why}</translation>
        </message>
        <message>
            <source>cannot use the file {path}: {cause}; check its name and its folder</source>
            <translation>无法使用文件 {path}：{cause}；请检查其名称和文件夹</translation>
        </message>
        <message>
            <source>cannot use the file: {cause}; check its name and its folder</source>
            <translation>无法使用该文件：{cause}；请检查其名称和文件夹</translation>
        </message>
        <message>
            <source>cannot use the folder {folder}: {cause}</source>
            <translation>无法使用文件夹 {folder}:{cause}</translation>
        </message>
        <message>
            <source>cannot use the pictures of {path}: got {name}, {width} x {height}, which cannot be converted ({error}); export it again as H.264 in MP4</source>
            <translation>无法使用 {path} 的画面：{name}，{width} x {height} 无法转换（{error}）；请重新导出为 H.264 的 MP4</translation>
        </message>
        <message>
            <source>cannot use {path} as a video: got an animated WebP, whose pictures cannot be decoded; convert it to MP4 or GIF</source>
            <translation>无法将 {path} 用作视频:它是动画 WebP,其图像无法解码;请将其转换为 MP4 或 GIF</translation>
        </message>
        <message>
            <source>cannot use {path} as a video: got {what}, expected a video with pictures, such as H.264 in MP4</source>
            <translation>无法将 {path} 用作视频：其中是{what}，应为带画面的视频，例如 H.264 的 MP4</translation>
        </message>
        <message>
            <source>cannot write a picture to {path}: got suffix {suffix}, expected {suffixes}</source>
            <translation>无法将图片写入 {path}：扩展名为 {suffix}，应为 {suffixes}</translation>
        </message>
        <message>
            <source>cannot write the picture {path}: it is a folder, expected a file name</source>
            <translation>无法写入图片 {path}：这是文件夹，应为文件名</translation>
        </message>
        <message>
            <source>cannot write the picture {path}: {cause}</source>
            <translation>无法写入图片 {path}：{cause}</translation>
        </message>
        <message>
            <source>choose a disk that takes larger files, or make it shorter</source>
            <translation>请选择支持更大文件的磁盘，或缩短长度</translation>
        </message>
        <message>
            <source>choose another place</source>
            <translation>请选择其他位置</translation>
        </message>
        <message>
            <source>chroma green</source>
            <translation>抠像绿</translation>
        </message>
        <message>
            <source>close your mouth</source>
            <translation>请闭上嘴</translation>
        </message>
        <message>
            <source>compose</source>
            <translation>合成</translation>
        </message>
        <message>
            <source>config key {key}: got {got}, expected {expected}</source>
            <translation>配置项 {key}：得到 {got}，应为 {expected}</translation>
        </message>
        <message>
            <source>config key {prefix}{missing} is missing</source>
            <translation>缺少配置项 {prefix}{missing}</translation>
        </message>
        <message>
            <source>control from outside cannot listen on port {port}: {why}; choose another port, or 0 for any that is free</source>
            <translation>外部控制无法监听端口 {port}：{why}；请选择其他端口，或用 0 表示任意空闲端口</translation>
        </message>
        <message>
            <source>control from outside cannot start: {why}</source>
            <translation>外部控制无法启动：{why}</translation>
        </message>
        <message>
            <source>control from outside: got port {port}, expected 0 to 65535</source>
            <translation>外部控制：端口为 {port}，应为 0 至 65535</translation>
        </message>
        <message>
            <source>crop</source>
            <translation>裁剪</translation>
        </message>
        <message>
            <source>cut out</source>
            <translation>抠像</translation>
        </message>
        <message>
            <source>cutting the person out; the scene stays until then…</source>
            <translation>正在抠出人物；完成前场景保持不变…</translation>
        </message>
        <message>
            <source>delay your microphone by {delay_ms} ms</source>
            <translation>请将麦克风延迟 {delay_ms} ms</translation>
        </message>
        <message>
            <source>detect</source>
            <translation>检测</translation>
        </message>
        <message>
            <source>device: got {name}, but {lack}; use --device cpu (or auto), or mend that</source>
            <translation>设备：指定了 {name}，但{lack}；请使用 --device cpu（或 auto），或解决该问题</translation>
        </message>
        <message>
            <source>device: got {name}, expected auto, cpu, cuda, cuda:N, gpu, gpu:N or mps</source>
            <translation>设备：指定了 {name}，应为 auto、cpu、cuda、cuda:N、gpu、gpu:N 或 mps</translation>
        </message>
        <message>
            <source>done</source>
            <translation>已完成</translation>
        </message>
        <message>
            <source>dropped</source>
            <translation>丢弃</translation>
        </message>
        <message>
            <source>dropped {percent:.0f} %</source>
            <translation>丢弃 {percent:.0f}%</translation>
        </message>
        <message>
            <source>encode</source>
            <translation>编码</translation>
        </message>
        <message>
            <source>everything is ready</source>
            <translation>一切就绪</translation>
        </message>
        <message>
            <source>face</source>
            <translation>人脸</translation>
        </message>
        <message>
            <source>face lost: returning to rest</source>
            <translation>人脸丢失：正在恢复静息</translation>
        </message>
        <message>
            <source>face lost: the last picture stays</source>
            <translation>人脸丢失：保留最后一帧</translation>
        </message>
        <message>
            <source>fine detail</source>
            <translation>精细细节</translation>
        </message>
        <message>
            <source>getting ready</source>
            <translation>准备中</translation>
        </message>
        <message>
            <source>got 32 bits per channel, expected 8 or 16; convert it to JPEG or PNG</source>
            <translation>每通道 32 位，应为 8 或 16 位；请转换为 JPEG 或 PNG</translation>
        </message>
        <message>
            <source>got Lab colours with a profile that cannot be used; convert it to JPEG or PNG</source>
            <translation>Lab 颜色的配置文件无法使用；请转换为 JPEG 或 PNG</translation>
        </message>
        <message>
            <source>got PipeWire {version}, expected {oldest} or newer; update it</source>
            <translation>当前为 PipeWire {version}，应为 {oldest} 或更高版本；请更新</translation>
        </message>
        <message>
            <source>got a network address, and only a file of this machine can be used; download it first</source>
            <translation>这是网络地址，而只能使用本机上的文件；请先下载</translation>
        </message>
        <message>
            <source>got figures of format {evaluation}, expected 'mcnet-evaluation/2'</source>
            <translation>指标的格式为 {evaluation}，应为“mcnet-evaluation/2”</translation>
        </message>
        <message>
            <source>got only a private key to sign with: name the file of its certificates as well</source>
            <translation>签名只指定了私钥：请同时指定其证书文件</translation>
        </message>
        <message>
            <source>got only certificates to sign with: name the file of their private key as well</source>
            <translation>签名只指定了证书：请同时指定其私钥文件</translation>
        </message>
        <message>
            <source>got pictures of shape {shape}, expected (height, width, 3) of at least {least_px} pixels per side</source>
            <translation>画面形状为 {shape}，应为 (高, 宽, 3)，每边至少 {least_px} 像素</translation>
        </message>
        <message>
            <source>got {got}, expected a list</source>
            <translation>为 {got}，应为列表</translation>
        </message>
        <message>
            <source>ink</source>
            <translation>墨色</translation>
        </message>
        <message>
            <source>install the app again</source>
            <translation>请重新安装应用</translation>
        </message>
        <message>
            <source>int8 with OpenVINO, else {precision}</source>
            <translation>用 OpenVINO 时为 int8，否则为 {precision}</translation>
        </message>
        <message>
            <source>it cannot be signed: {why}</source>
            <translation>无法签名：{why}</translation>
        </message>
        <message>
            <source>it has {frames} frames, which is as many as a motion file takes</source>
            <translation>已有 {frames} 帧，达到动作文件的上限</translation>
        </message>
        <message>
            <source>it is the fastest on x86-64 CPUs</source>
            <translation>它在 x86-64 CPU 上最快</translation>
        </message>
        <message>
            <source>it is what computes on Apple GPUs</source>
            <translation>在 Apple GPU 上由它计算</translation>
        </message>
        <message>
            <source>it is what computes on Intel GPUs</source>
            <translation>在 Intel GPU 上由它计算</translation>
        </message>
        <message>
            <source>it opens, but gives no frames</source>
            <translation>可以打开，但没有画面</translation>
        </message>
        <message>
            <source>it was changed, moved or removed while it was being signed</source>
            <translation>它在签名期间被更改、移动或移除</translation>
        </message>
        <message>
            <source>it was ended</source>
            <translation>它已被结束</translation>
        </message>
        <message>
            <source>it was removed meanwhile</source>
            <translation>它在此期间被移除</translation>
        </message>
        <message>
            <source>its first {value:g} s are kept</source>
            <translation>保留了前 {value:g} 秒</translation>
        </message>
        <message>
            <source>its header is no JSON</source>
            <translation>其文件头不是 JSON</translation>
        </message>
        <message>
            <source>its linear jacobians are no {rows} rows of {columns} numbers, as {count} keypoints on the face mesh have them</source>
            <translation>其线性雅可比矩阵不是 {rows} 行、每行 {columns} 个数值，而面部网格上的 {count} 个关键点需要如此</translation>
        </message>
        <message>
            <source>its linear jacobians have {value}, expected finite numbers</source>
            <translation>其线性雅可比矩阵含有 {value}，应为有限数值</translation>
        </message>
        <message>
            <source>its process ended with {status}: out of memory, or a library crashed</source>
            <translation>其进程以 {status} 结束：内存不足，或某个库崩溃</translation>
        </message>
        <message>
            <source>its statement would go to {path}, where another file is: move or rename that one</source>
            <translation>其声明应写入 {path}，但该处已有其他文件：请移动或重命名该文件</translation>
        </message>
        <message>
            <source>key: got {key}, expected a letter, a digit, F1 to F24, Pause, ScrollLock, Print, Ins, Del, Home, End, PgUp, PgDown or Space, with Ctrl, Alt, Shift or Meta, such as Ctrl+Alt+0</source>
            <translation>按键：为 {key}，应为字母、数字、F1 至 F24、Pause、ScrollLock、Print、Ins、Del、Home、End、PgUp、PgDown 或 Space，并与 Ctrl、Alt、Shift 或 Meta 组合，例如 Ctrl+Alt+0</translation>
        </message>
        <message>
            <source>key: {key} alone would be taken from whatever you write: choose it with Ctrl, Alt or Meta, or a key such as Pause or F9</source>
            <translation>按键：单独使用 {key} 会影响您的输入：请与 Ctrl、Alt 或 Meta 组合，或选择 Pause、F9 等按键</translation>
        </message>
        <message>
            <source>key: {key} is another program's already, the desktop's maybe: choose another one</source>
            <translation>按键：{key} 已被其他程序占用，可能是桌面：请选择其他按键</translation>
        </message>
        <message>
            <source>key: {key} is another program's already: choose another one</source>
            <translation>按键：{key} 已被其他程序占用：请选择其他按键</translation>
        </message>
        <message>
            <source>key: {key} is not on this keyboard: choose another one, such as Ctrl+Alt+0</source>
            <translation>按键：此键盘上没有 {key}：请选择其他按键，例如 Ctrl+Alt+0</translation>
        </message>
        <message>
            <source>lids</source>
            <comment>measure</comment>
            <translation>眼睑</translation>
        </message>
        <message>
            <source>light grey</source>
            <translation>浅灰</translation>
        </message>
        <message>
            <source>live</source>
            <translation>直播中</translation>
        </message>
        <message>
            <source>loading the model…</source>
            <translation>正在加载模型…</translation>
        </message>
        <message>
            <source>look as the portrait does</source>
            <translation>请与肖像保持一致</translation>
        </message>
        <message>
            <source>look straight into the camera</source>
            <translation>请直视摄像头</translation>
        </message>
        <message>
            <source>looking at the model…</source>
            <translation>正在检查模型…</translation>
        </message>
        <message>
            <source>macOS gives a key to one app only with the right to watch all keys: have the Shortcuts app run mcnet-avatar ctl slate by a key</source>
            <translation>macOS 只有在应用有权监视所有按键时才会提供按键：请在“快捷指令”应用中用按键运行 mcnet-avatar ctl slate</translation>
        </message>
        <message>
            <source>make room on the disk</source>
            <translation>请腾出磁盘空间</translation>
        </message>
        <message>
            <source>make room: what you may use of the disk is used up</source>
            <translation>请腾出空间：您可用的磁盘配额已用完</translation>
        </message>
        <message>
            <source>matte</source>
            <translation>遮罩</translation>
        </message>
        <message>
            <source>measuring</source>
            <translation>测量中</translation>
        </message>
        <message>
            <source>measuring…</source>
            <translation>正在测量…</translation>
        </message>
        <message>
            <source>model</source>
            <translation>模型</translation>
        </message>
        <message>
            <source>model to sinks</source>
            <translation>模型到输出</translation>
        </message>
        <message>
            <source>model {model} gave NaN for the keypoints of this frame: use precision fp32 or another model; the frame is not shown</source>
            <translation>模型 {model} 对这一帧的关键点给出 NaN：请使用精度 fp32 或其他模型；这一帧不会显示</translation>
        </message>
        <message>
            <source>model {model} gave NaN for the {what}: use precision fp32 or another model</source>
            <translation>模型 {model} 给出 NaN（{what}）：请使用精度 fp32 或其他模型</translation>
        </message>
        <message>
            <source>model {model} gave NaN or infinite values for this frame, expected colours in [0, 1]: use precision fp32 or another model; the frame is not shown</source>
            <translation>模型 {model} 对这一帧给出 NaN 或无穷大，颜色应在 [0, 1] 内：请使用精度 fp32 或其他模型；这一帧不会显示</translation>
        </message>
        <message>
            <source>model {name}</source>
            <translation>模型 {name}</translation>
        </message>
        <message>
            <source>mouth</source>
            <comment>measure</comment>
            <translation>嘴</translation>
        </message>
        <message>
            <source>mps is for Apple's GPUs, and this is {system}</source>
            <translation>mps 用于 Apple GPU，而这里是 {system}</translation>
        </message>
        <message>
            <source>ms</source>
            <translation>ms</translation>
        </message>
        <message>
            <source>name of the PipeWire camera: got {name}, expected 1 to {longest} printable characters</source>
            <translation>PipeWire 摄像头的名称：为 {name}，应为 1 至 {longest} 个可打印字符</translation>
        </message>
        <message>
            <source>needs a hand</source>
            <translation>需要处理</translation>
        </message>
        <message>
            <source>network camera {address}</source>
            <translation>网络摄像头 {address}</translation>
        </message>
        <message>
            <source>neutral face, any direction</source>
            <translation>自然表情，朝向不限</translation>
        </message>
        <message>
            <source>no camera at {path}: got nothing there; {advice}</source>
            <translation>{path} 处没有摄像头：那里什么也没有；{advice}</translation>
        </message>
        <message>
            <source>no camera picture</source>
            <translation>无摄像头画面</translation>
        </message>
        <message>
            <source>no camera was found: plug one in, or use a video file</source>
            <translation>未找到摄像头：请连接一个，或使用视频文件</translation>
        </message>
        <message>
            <source>no camera yet: choose one under Camera</source>
            <translation>尚无摄像头：请在“摄像头”中选择</translation>
        </message>
        <message>
            <source>no configuration is named {name}; the named ones are {named}</source>
            <translation>没有名为 {name} 的配置；现有的是 {named}</translation>
        </message>
        <message>
            <source>no face in {name}: got none that looks towards the camera; take another picture, larger or from the front, or turn this one upright</source>
            <translation>{name} 中没有人脸：没有朝向摄像头的人脸；请换一张更大或正面的图片，或将这张转正</translation>
        </message>
        <message>
            <source>no face is shown</source>
            <translation>不显示人脸</translation>
        </message>
        <message>
            <source>no face was found in it</source>
            <translation>其中未找到人脸</translation>
        </message>
        <message>
            <source>no face was found in this portrait</source>
            <translation>这张肖像中未找到人脸</translation>
        </message>
        <message>
            <source>no face was seen while the motion was recorded: there is no file {path}</source>
            <translation>录制动作期间没有看到人脸：没有文件 {path}</translation>
        </message>
        <message>
            <source>no face was seen, so that nothing was calibrated: look into the camera, and calibrate again</source>
            <translation>没有看到人脸，因此没有进行任何校准：请看向摄像头，然后重新校准</translation>
        </message>
        <message>
            <source>no face: the avatar rests</source>
            <translation>无人脸：虚拟形象处于静息</translation>
        </message>
        <message>
            <source>no file is chosen; choose a picture or a video</source>
            <translation>未选择文件；请选择图片或视频</translation>
        </message>
        <message>
            <source>no frame of {path} can be decoded: it is damaged or cut short; export it again</source>
            <translation>{path} 没有一帧可以解码：它已损坏或不完整；请重新导出</translation>
        </message>
        <message>
            <source>no frame of {path} can be decoded; choose another video</source>
            <translation>{path} 没有一帧可以解码；请选择其他视频</translation>
        </message>
        <message>
            <source>no model {name_or_path}: got neither a file, a folder nor a bundled name, expected a .safetensors or .pth.tar file or a model's folder (check the path) or one of: {bundled}</source>
            <translation>没有模型 {name_or_path}：它不是文件、文件夹或自带名称；应为 .safetensors 或 .pth.tar 文件、模型文件夹（请检查路径），或以下之一：{bundled}</translation>
        </message>
        <message>
            <source>no motion file {path}: there is no such file</source>
            <translation>没有动作文件 {path}：没有这样的文件</translation>
        </message>
        <message>
            <source>no permission for {path} ({name}): run `sudo usermod -aG video $USER`, then log out and in again</source>
            <translation>没有 {path}（{name}）的权限：请运行 `sudo usermod -aG video $USER`，然后注销并重新登录</translation>
        </message>
        <message>
            <source>no person is told apart from the background</source>
            <translation>无法将任何人物与背景区分开</translation>
        </message>
        <message>
            <source>no picture at {path}: check the path</source>
            <translation>{path} 处没有图片：请检查路径</translation>
        </message>
        <message>
            <source>no picture track</source>
            <translation>没有画面轨道</translation>
        </message>
        <message>
            <source>no portrait can be used: add another one</source>
            <translation>没有可用的肖像：请再添加一个</translation>
        </message>
        <message>
            <source>no portrait yet: choose one, or add yours</source>
            <translation>尚无肖像：请选择一个，或添加您自己的</translation>
        </message>
        <message>
            <source>no portrait {text}: got neither a file nor a known name ({names}); check the path or the name</source>
            <translation>没有肖像 {text}：它不是文件，也不是已知名称（{names}）；请检查路径或名称</translation>
        </message>
        <message>
            <source>no process could be started for it ({error})</source>
            <translation>无法为此启动进程（{error}）</translation>
        </message>
        <message>
            <source>no video at {path}: check the path</source>
            <translation>{path} 处没有视频：请检查路径</translation>
        </message>
        <message>
            <source>none</source>
            <translation>无</translation>
        </message>
        <message>
            <source>none yet</source>
            <translation>尚无</translation>
        </message>
        <message>
            <source>not calibrated yet: look into the camera, or press Calibrate</source>
            <translation>尚未校准：请看向摄像头，或点击“校准”</translation>
        </message>
        <message>
            <source>not needed in absolute motion</source>
            <translation>绝对模式无需校准</translation>
        </message>
        <message>
            <source>not stated</source>
            <translation>未注明</translation>
        </message>
        <message>
            <source>nothing</source>
            <translation>空</translation>
        </message>
        <message>
            <source>nothing here runs model {model}: {reasons}; is another program in the way?</source>
            <translation>这里无法运行模型 {model}：{reasons}；是否有其他程序妨碍？</translation>
        </message>
        <message>
            <source>nothing is there</source>
            <translation>没有内容</translation>
        </message>
        <message>
            <source>nothing of it could be kept</source>
            <translation>未能保留任何内容</translation>
        </message>
        <message>
            <source>nothing yet</source>
            <translation>尚无</translation>
        </message>
        <message>
            <source>of unknown version</source>
            <translation>版本未知</translation>
        </message>
        <message>
            <source>on Debian or Ubuntu: apt-get install libpulse0</source>
            <translation>在 Debian 或 Ubuntu 上：apt-get install libpulse0</translation>
        </message>
        <message>
            <source>only sound</source>
            <translation>只有声音</translation>
        </message>
        <message>
            <source>only you see this</source>
            <translation>只有您能看到</translation>
        </message>
        <message>
            <source>open your eyes</source>
            <translation>请睁开眼睛</translation>
        </message>
        <message>
            <source>open your mouth as in the portrait</source>
            <translation>请像肖像那样张开嘴</translation>
        </message>
        <message>
            <source>openvino cannot be used: {failure}</source>
            <translation>无法使用 openvino：{failure}</translation>
        </message>
        <message>
            <source>output</source>
            <translation>输出</translation>
        </message>
        <message>
            <source>part of the face is cut off</source>
            <translation>脸的一部分被裁掉了</translation>
        </message>
        <message>
            <source>pictures in a codec that cannot be decoded</source>
            <translation>无法解码的编解码器的画面</translation>
        </message>
        <message>
            <source>pine</source>
            <translation>松绿</translation>
        </message>
        <message>
            <source>places: got {given} of shape {got}, expected {pictures} of shape {shape}, finite numbers</source>
            <translation>places：得到 {given} 个形状为 {got} 的，应为 {pictures} 个形状为 {shape} 的有限数</translation>
        </message>
        <message>
            <source>plug it in, or choose another: {there}</source>
            <translation>请连接它，或选择其他摄像头：{there}</translation>
        </message>
        <message>
            <source>plug one in; no camera is there at all</source>
            <translation>请连接一个；当前没有任何摄像头</translation>
        </message>
        <message>
            <source>portrait</source>
            <translation>肖像</translation>
        </message>
        <message>
            <source>portrait angle_deg: got {angle_deg}, expected a number</source>
            <translation>肖像 angle_deg：为 {angle_deg}，应为数字</translation>
        </message>
        <message>
            <source>portrait box: got {box}, expected three numbers, the last of them above 0</source>
            <translation>肖像 box：为 {box}，应为三个数字，其中最后一个须大于 0</translation>
        </message>
        <message>
            <source>precision: got 'int8', but {lack}</source>
            <translation>精度：指定了“int8”，但{lack}</translation>
        </message>
        <message>
            <source>precision: got bf16 on {device}, expected fp32 or fp16 there</source>
            <translation>精度：在 {device} 上指定了 bf16，应为 fp32 或 fp16</translation>
        </message>
        <message>
            <source>precision: got bf16 on {device}, expected fp32, fp16 or int8 there</source>
            <translation>精度：{device} 上收到 bf16，此处应为 fp32、fp16 或 int8</translation>
        </message>
        <message>
            <source>precision: got fp16 on the CPU, expected fp32, bf16 or int8 there (fp16 is for GPUs)</source>
            <translation>精度：CPU 上收到 fp16，此处应为 fp32、bf16 或 int8（fp16 用于 GPU）</translation>
        </message>
        <message>
            <source>precision: got {precision}, expected one of {allowed}</source>
            <translation>精度：指定了 {precision}，应为以下之一：{allowed}</translation>
        </message>
        <message>
            <source>preset: got {name} for a name, expected 1 to {most} characters</source>
            <translation>预设：名称为 {name}，应为 1 至 {most} 个字符</translation>
        </message>
        <message>
            <source>preset: got {name}, expected one of your own: {own}</source>
            <translation>预设：为 {name}，应为您自己的预设之一：{own}</translation>
        </message>
        <message>
            <source>preset: got {name}, expected one of {names}</source>
            <translation>预设：为 {name}，应为以下之一：{names}</translation>
        </message>
        <message>
            <source>preset: there are {count} already, expected no more: delete one first</source>
            <translation>预设：已有 {count} 个，不能再多：请先删除一个</translation>
        </message>
        <message>
            <source>preset: {name} is there already: choose another name, or delete it first</source>
            <translation>预设：{name} 已存在：请选择其他名称，或先删除它</translation>
        </message>
        <message>
            <source>preset: {name} stays as it is: choose another name</source>
            <translation>预设：{name} 保持不变：请选择其他名称</translation>
        </message>
        <message>
            <source>presets</source>
            <translation>预设</translation>
        </message>
        <message>
            <source>process {name}</source>
            <translation>进程 {name}</translation>
        </message>
        <message>
            <source>reading the portrait…</source>
            <translation>正在读取肖像…</translation>
        </message>
        <message>
            <source>recorded frames are the fastest on GPUs</source>
            <translation>在 GPU 上录制的帧最快</translation>
        </message>
        <message>
            <source>recording {path}: got a picture of {got}, expected {shape}</source>
            <translation>录像 {path}：画面为 {got}，应为 {shape}</translation>
        </message>
        <message>
            <source>render</source>
            <translation>渲染</translation>
        </message>
        <message>
            <source>retouch</source>
            <translation>修饰</translation>
        </message>
        <message>
            <source>row {number}: got {got}, expected a portrait with its key</source>
            <translation>第 {number} 行：为 {got}，应为带键（key）的肖像</translation>
        </message>
        <message>
            <source>row {number}: there is no picture {got}</source>
            <translation>第 {number} 行：没有图片 {got}</translation>
        </message>
        <message>
            <source>row {number}: {error}</source>
            <translation>第 {number} 行：{error}</translation>
        </message>
        <message>
            <source>runs on</source>
            <translation>运行于</translation>
        </message>
        <message>
            <source>see that its app is in front, the phone awake, and both in the same network</source>
            <translation>请确认其应用在前台、手机未休眠，且二者在同一网络中</translation>
        </message>
        <message>
            <source>see whether the disk is slow</source>
            <translation>请检查磁盘是否过慢</translation>
        </message>
        <message>
            <source>send</source>
            <translation>发送</translation>
        </message>
        <message>
            <source>setting</source>
            <translation>设置</translation>
        </message>
        <message>
            <source>setting background_colour: got {colour}, expected #rrggbb</source>
            <translation>设置 background_colour：为 {colour}，应为 #rrggbb</translation>
        </message>
        <message>
            <source>setting inspector_views: got {views}, expected {least_views} to {most_views} different ones</source>
            <translation>设置 inspector_views：为 {views}，应为 {least_views} 至 {most_views} 个不同的视图</translation>
        </message>
        <message>
            <source>setting slate_text: got {got} characters, expected at most {longest_slate_text}</source>
            <translation>设置 slate_text：有 {got} 个字符，最多 {longest_slate_text} 个</translation>
        </message>
        <message>
            <source>setting slate_text: the slate cannot show {characters}; leave that out, or have a picture that shows it as slate_image</source>
            <translation>设置 slate_text：待机画面无法显示 {characters}；请去掉它，或用 slate_image 指定包含它的图片</translation>
        </message>
        <message>
            <source>setting {name}: got {value}, expected an even number</source>
            <translation>设置 {name}：为 {value}，应为偶数</translation>
        </message>
        <message>
            <source>setting {name}: got {value}, expected {low} to {high}</source>
            <translation>设置 {name}：为 {value}，应为 {low} 至 {high}</translation>
        </message>
        <message>
            <source>settings</source>
            <translation>设置</translation>
        </message>
        <message>
            <source>several people are in it; the largest face is used</source>
            <translation>其中有多个人；使用最大的人脸</translation>
        </message>
        <message>
            <source>show your face to the camera</source>
            <translation>请让摄像头看到您的脸</translation>
        </message>
        <message>
            <source>signing needs room for a second copy: got {free_mb:.0f} MB, expected {needed_mb:.0f} MB; make room on the disk</source>
            <translation>签名需要第二份副本的空间：可用 {free_mb:.0f} MB，需要 {needed_mb:.0f} MB；请腾出磁盘空间</translation>
        </message>
        <message>
            <source>skin, teeth and shut lids cannot be drawn for this portrait: {error}</source>
            <translation>无法为这张肖像绘制皮肤、牙齿和闭合的眼睑：{error}</translation>
        </message>
        <message>
            <source>slate grey</source>
            <translation>石板灰</translation>
        </message>
        <message>
            <source>slate until the camera is back</source>
            <translation>显示待机画面，直到摄像头恢复</translation>
        </message>
        <message>
            <source>slate until your face is back</source>
            <translation>显示待机画面，直到重新看到您的脸</translation>
        </message>
        <message>
            <source>some of {sizes_px}, in rising order</source>
            <translation>{sizes_px} 中的若干个，按升序</translation>
        </message>
        <message>
            <source>something else or a damaged file</source>
            <translation>其他内容或损坏的文件</translation>
        </message>
        <message>
            <source>starting…</source>
            <translation>正在启动…</translation>
        </message>
        <message>
            <source>surroundings</source>
            <translation>周围</translation>
        </message>
        <message>
            <source>the Apple GPU</source>
            <translation>Apple GPU</translation>
        </message>
        <message>
            <source>the GPU is not used: {failure}</source>
            <translation>未使用 GPU：{failure}</translation>
        </message>
        <message>
            <source>the GPU that torch found</source>
            <translation>torch 找到的 GPU</translation>
        </message>
        <message>
            <source>the PipeWire camera cannot be made: {error}</source>
            <translation>无法创建 PipeWire 摄像头：{error}</translation>
        </message>
        <message>
            <source>the PipeWire camera cannot be opened: no daemon listens at {socket} ({error}); start it with `systemctl --user start pipewire wireplumber`, or see `mcnet-avatar --doctor`</source>
            <translation>无法打开 PipeWire 摄像头：{socket} 没有服务响应（{error}）；请用 `systemctl --user start pipewire wireplumber` 启动，或查看 `mcnet-avatar --doctor`</translation>
        </message>
        <message>
            <source>the PipeWire camera is not open; open it first</source>
            <translation>PipeWire 摄像头未打开；请先打开</translation>
        </message>
        <message>
            <source>the PipeWire camera is open already ({detail}); close it first</source>
            <translation>PipeWire 摄像头已打开（{detail}）；请先关闭</translation>
        </message>
        <message>
            <source>the X server does not answer for a key: {failure}</source>
            <translation>X 服务器没有响应按键请求：{failure}</translation>
        </message>
        <message>
            <source>the X server gives the key to this app</source>
            <translation>X 服务器将该按键交给本应用</translation>
        </message>
        <message>
            <source>the X server has ended: {failure}</source>
            <translation>X 服务器已结束：{failure}</translation>
        </message>
        <message>
            <source>the authors' released weights are not bundled: download their checkpoint and give its path (.pth.tar)</source>
            <translation>未附带作者发布的权重：请下载其检查点并指定路径（.pth.tar）</translation>
        </message>
        <message>
            <source>the background is to be a picture, but none is chosen: choose a file, or another background</source>
            <translation>背景设为图片，但未选择图片：请选择文件，或其他背景</translation>
        </message>
        <message>
            <source>the background picture</source>
            <translation>背景图片</translation>
        </message>
        <message>
            <source>the background video cannot be used: {error}</source>
            <translation>无法使用背景视频：{error}</translation>
        </message>
        <message>
            <source>the bundle has no torch (an installation by pip has)</source>
            <translation>独立安装包不含 torch（用 pip 安装的版本含有）</translation>
        </message>
        <message>
            <source>the calibration is under way</source>
            <translation>正在校准</translation>
        </message>
        <message>
            <source>the call sees the slate</source>
            <translation>通话看到待机画面</translation>
        </message>
        <message>
            <source>the camera cannot be used: choose another one</source>
            <translation>无法使用该摄像头：请选择其他摄像头</translation>
        </message>
        <message>
            <source>the camera gives no frames: plug it in again, or choose another one</source>
            <translation>摄像头没有画面：请重新连接，或选择其他摄像头</translation>
        </message>
        <message>
            <source>the camera is being opened</source>
            <translation>正在打开摄像头</translation>
        </message>
        <message>
            <source>the camera's frames have another size now</source>
            <translation>摄像头的帧大小已改变</translation>
        </message>
        <message>
            <source>the certificate in {path} is valid from {begin} to {end} and not now: get a new one</source>
            <translation>{path} 中证书的有效期为 {begin} 至 {end}，现在无效：请获取新证书</translation>
        </message>
        <message>
            <source>the desktop did not give the key: allow it in its settings for shortcuts</source>
            <translation>桌面没有提供该按键：请在其快捷键设置中允许</translation>
        </message>
        <message>
            <source>the desktop has taken the key back</source>
            <translation>桌面已收回该按键</translation>
        </message>
        <message>
            <source>the desktop is asked for the key, and may ask you</source>
            <translation>正在向桌面请求该按键，它可能会询问您</translation>
        </message>
        <message>
            <source>the desktop's portal does not answer</source>
            <translation>桌面的门户没有响应</translation>
        </message>
        <message>
            <source>the desktop's portal has refused the key: bind mcnet-avatar ctl slate there</source>
            <translation>桌面的门户拒绝了该按键：请在那里绑定 mcnet-avatar ctl slate</translation>
        </message>
        <message>
            <source>the engine knows those of NVIDIA, Intel and Apple</source>
            <translation>引擎支持 NVIDIA、Intel 和 Apple 的 GPU</translation>
        </message>
        <message>
            <source>the eyes are hardly open</source>
            <translation>眼睛几乎没有睁开</translation>
        </message>
        <message>
            <source>the face is close to the picture's border</source>
            <translation>人脸离图片边缘太近</translation>
        </message>
        <message>
            <source>the face is dark: take a picture in more light</source>
            <translation>脸太暗：请在更亮的光线下拍照</translation>
        </message>
        <message>
            <source>the face is over-exposed: take a picture in less light</source>
            <translation>脸曝光过度：请在较弱的光线下拍照</translation>
        </message>
        <message>
            <source>the face is small: use a larger picture</source>
            <translation>人脸太小：请使用更大的图片</translation>
        </message>
        <message>
            <source>the figures lack {error}, or have something else in its place: expected what `mcnet-train evaluate --json` wrote</source>
            <translation>指标缺少 {error}，或该处为其他内容：应为 `mcnet-train evaluate --json` 的输出</translation>
        </message>
        <message>
            <source>the fine detail of this portrait cannot be shown: {error}</source>
            <translation>无法显示这张肖像的精细细节：{error}</translation>
        </message>
        <message>
            <source>the folder {path} holds no picture: expected files such as PNG, JPEG or HEIC</source>
            <translation>文件夹 {path} 中没有图片：应为 PNG、JPEG 或 HEIC 等文件</translation>
        </message>
        <message>
            <source>the head is tilted</source>
            <translation>头部倾斜</translation>
        </message>
        <message>
            <source>the head is turned to the side</source>
            <translation>头部转向一侧</translation>
        </message>
        <message>
            <source>the key was lost {n} times in a row ({error}): choose it again</source>
            <translation>按键连续丢失 {n} 次（{error}）：请重新选择</translation>
        </message>
        <message>
            <source>the key was not given in the desktop's dialog: choose it again to be asked</source>
            <translation>桌面的对话框中没有给出该按键：请重新选择以再次询问</translation>
        </message>
        <message>
            <source>the microphone fails: {error}</source>
            <translation>麦克风出错：{error}</translation>
        </message>
        <message>
            <source>the microphone gives no sound: plug it in again, or choose another one</source>
            <translation>麦克风没有声音：请重新连接，或选择其他麦克风</translation>
        </message>
        <message>
            <source>the microphone is not there: plug it in, or choose another one</source>
            <translation>麦克风不存在：请连接，或选择其他麦克风</translation>
        </message>
        <message>
            <source>the microphone {description} cannot be opened ({name}): close what else uses it, or choose another one</source>
            <translation>无法打开麦克风 {description}（{name}）：请关闭正在使用它的程序，或选择其他麦克风</translation>
        </message>
        <message>
            <source>the microphone {name} gives no sound any more: plug it in again, close what else uses it, or choose another one</source>
            <translation>麦克风 {name} 不再有声音：请重新连接、关闭正在使用它的程序，或选择其他麦克风</translation>
        </message>
        <message>
            <source>the microphone {name} gives no sound: plug it in again, or choose another one</source>
            <translation>麦克风 {name} 没有声音：请重新连接，或选择其他麦克风</translation>
        </message>
        <message>
            <source>the model</source>
            <translation>该模型</translation>
        </message>
        <message>
            <source>the model cannot be loaded: {reason}</source>
            <translation>无法加载模型：{reason}</translation>
        </message>
        <message>
            <source>the model gives no pictures: wait, or press Start again</source>
            <translation>模型没有画面：请等待，或点击“重新开始”</translation>
        </message>
        <message>
            <source>the model has given no picture for {seconds:g} s: wait, or start again</source>
            <translation>模型已有 {seconds:g} 秒没有给出画面：请等待，或重新开始</translation>
        </message>
        <message>
            <source>the model is loading</source>
            <translation>正在加载模型</translation>
        </message>
        <message>
            <source>the mouth is open: teeth and lips will stretch</source>
            <translation>嘴是张开的：牙齿和嘴唇会被拉伸</translation>
        </message>
        <message>
            <source>the network {path} is not the bundled one: got SHA-256 {found}..., expected {expected}...; reinstall the package</source>
            <translation>网络 {path} 不是自带的：其 SHA-256 为 {found}...，应为 {expected}...；请重新安装软件包</translation>
        </message>
        <message>
            <source>the old file could not be moved ({error})</source>
            <translation>旧文件无法移动（{error}）</translation>
        </message>
        <message>
            <source>the old file is kept as {aside}</source>
            <translation>旧文件保留为 {aside}</translation>
        </message>
        <message>
            <source>the output has failed: {reason}</source>
            <translation>输出故障：{reason}</translation>
        </message>
        <message>
            <source>the package c2pa-python cannot be used ({error}); install the app again, or switch Content Credentials off</source>
            <translation>无法使用软件包 c2pa-python（{error}）；请重新安装应用，或关闭内容凭证</translation>
        </message>
        <message>
            <source>the package cryptography cannot be used ({error}); install the app again</source>
            <translation>无法使用软件包 cryptography（{error}）；请重新安装应用</translation>
        </message>
        <message>
            <source>the package {module} is missing in the bundle (install the app again)</source>
            <translation>独立安装包中缺少软件包 {module}（请重新安装应用）</translation>
        </message>
        <message>
            <source>the package {module} is not installed ({command})</source>
            <translation>未安装软件包 {module}（{command}）</translation>
        </message>
        <message>
            <source>the person cannot be cut out of this portrait: {error}</source>
            <translation>无法从这张肖像中抠出人物：{error}</translation>
        </message>
        <message>
            <source>the picture is soft</source>
            <translation>图片模糊</translation>
        </message>
        <message>
            <source>the picture {path} is too large: got {width} x {height}, expected at most {millions} million pixels; make it smaller</source>
            <translation>图片 {path} 太大：{width} x {height}，最多 {millions} 百万像素；请缩小</translation>
        </message>
        <message>
            <source>the picture {path} is too small: got {width} x {height}, expected at least {least_px} pixels on each side; use a larger one</source>
            <translation>图片 {path} 太小：{width} x {height}，每边至少 {least_px} 像素；请使用更大的图片</translation>
        </message>
        <message>
            <source>the pictures of {path} differ in size: got {own_width} x {own_height} in {name}, expected {width} x {height} as in {first}</source>
            <translation>{path} 中的图片大小不一：{name} 为 {own_width} x {own_height}，应与 {first} 一样为 {width} x {height}</translation>
        </message>
        <message>
            <source>the portrait is being prepared</source>
            <translation>正在准备肖像</translation>
        </message>
        <message>
            <source>the private key {key} is not that of the first certificate in {certificates}: give the pair that belongs together, the signer's certificate first</source>
            <translation>私钥 {key} 与 {certificates} 中的第一个证书不匹配：请给出配对的一组，签名者的证书在前</translation>
        </message>
        <message>
            <source>the private key {path} has a passphrase, and nobody is there to type it: expected one without</source>
            <translation>私钥 {path} 有密码，而无人输入：应为没有密码的私钥</translation>
        </message>
        <message>
            <source>the private key {path} is of a kind that C2PA does not take: expected an elliptic curve (P-256, P-384 or P-521), Ed25519, or RSA of at least {bits} bits</source>
            <translation>私钥 {path} 的类型不被 C2PA 接受：应为椭圆曲线（P-256、P-384 或 P-521）、Ed25519，或至少 {bits} 位的 RSA</translation>
        </message>
        <message>
            <source>the process that looks inside the network has ended, perhaps for want of memory; close the view and open it again</source>
            <translation>查看网络内部的进程已结束，可能是内存不足；请关闭该视图后重新打开</translation>
        </message>
        <message>
            <source>the recording is not open; open it first</source>
            <translation>录像未打开；请先打开</translation>
        </message>
        <message>
            <source>the recording {detail} is going on already; stop it first</source>
            <translation>录像 {detail} 已在进行；请先停止</translation>
        </message>
        <message>
            <source>the recording {path} cannot go on: {cause}; {kept}</source>
            <translation>录像 {path} 无法继续：{cause}；{kept}</translation>
        </message>
        <message>
            <source>the recording {path} failed: {reason}; {kept}</source>
            <translation>录像 {path} 失败：{reason}；{kept}</translation>
        </message>
        <message>
            <source>the session's message bus does not answer: {error}</source>
            <translation>会话的消息总线没有响应：{error}</translation>
        </message>
        <message>
            <source>the session's message bus has ended: {error}</source>
            <translation>会话的消息总线已结束：{error}</translation>
        </message>
        <message>
            <source>the settings ask for detected keypoints, and this needs measured ones</source>
            <translation>设置要求使用检测的关键点，而这里需要测量的关键点</translation>
        </message>
        <message>
            <source>the signed copy does not hold when it is read back ({problems}), so that it was not kept</source>
            <translation>签名副本在回读时未通过验证（{problems}），因此未保留</translation>
        </message>
        <message>
            <source>the signed copy does not show the same pictures, so that it was not kept</source>
            <translation>签名副本显示的画面不同，因此未保留</translation>
        </message>
        <message>
            <source>the signed copy says something else, so that it was not kept</source>
            <translation>签名副本的内容不符，因此未保留</translation>
        </message>
        <message>
            <source>the slate's picture</source>
            <translation>待机画面的图片</translation>
        </message>
        <message>
            <source>the system forbids the camera: allow it in System Settings, Privacy</source>
            <translation>系统禁止使用摄像头：请在系统设置的“隐私”中允许</translation>
        </message>
        <message>
            <source>the system's privacy settings keep the microphone from this app: allow it there</source>
            <translation>系统的隐私设置不允许本应用使用麦克风：请在那里允许</translation>
        </message>
        <message>
            <source>the system's sound cannot be used: what asks for it has crashed; start it again</source>
            <translation>无法使用系统声音：查询进程已崩溃；请重新启动</translation>
        </message>
        <message>
            <source>the system's sound did not answer within {seconds:g} s: start it again</source>
            <translation>系统声音在 {seconds:g} 秒内没有响应：请重新启动</translation>
        </message>
        <message>
            <source>the video {path} is too large: got {width} x {height}, expected at most {millions} million pixels; make it smaller</source>
            <translation>视频 {path} 过大:{width} x {height},最多应为 {millions} 百万像素;请将其缩小</translation>
        </message>
        <message>
            <source>the view into the network is the plain network's, which is torch's, and {lack}</source>
            <translation>查看内部需要 torch 的基本网络，但{lack}</translation>
        </message>
        <message>
            <source>the view into the network was closed; open it again</source>
            <translation>网络内部视图已关闭；请重新打开</translation>
        </message>
        <message>
            <source>the virtual camera cannot be opened: see the advice below its switch</source>
            <translation>无法打开虚拟摄像头：请看其开关下方的建议</translation>
        </message>
        <message>
            <source>the virtual camera cannot be opened: {said}; close programs that may write to it, and try again</source>
            <translation>无法打开虚拟摄像头：{said}；请关闭可能向它写入的程序，然后重试</translation>
        </message>
        <message>
            <source>the virtual camera cannot be used: pyvirtualcam is not there ({error}); install it with `pip install pyvirtualcam`</source>
            <translation>无法使用虚拟摄像头：缺少 pyvirtualcam（{error}）；请用 `pip install pyvirtualcam` 安装</translation>
        </message>
        <message>
            <source>the virtual camera is being opened</source>
            <translation>正在打开虚拟摄像头</translation>
        </message>
        <message>
            <source>the virtual camera is being opened again</source>
            <translation>正在重新打开虚拟摄像头</translation>
        </message>
        <message>
            <source>the virtual camera is not open; open it first</source>
            <translation>虚拟摄像头未打开；请先打开</translation>
        </message>
        <message>
            <source>the virtual camera is off: switch it on for a call</source>
            <translation>虚拟摄像头已关闭：通话时请开启</translation>
        </message>
        <message>
            <source>the virtual camera is open already ({detail}); close it first</source>
            <translation>虚拟摄像头已打开（{detail}）；请先关闭</translation>
        </message>
        <message>
            <source>the virtual camera takes no pictures any more: switch it on again</source>
            <translation>虚拟摄像头不再接收画面：请重新开启</translation>
        </message>
        <message>
            <source>the virtual camera {detail} could not be closed: {error}</source>
            <translation>无法关闭虚拟摄像头 {detail}：{error}</translation>
        </message>
        <message>
            <source>the virtual camera {detail} takes no pictures any more: {error}; open it again</source>
            <translation>虚拟摄像头 {detail} 不再接收画面：{error}；请重新打开</translation>
        </message>
        <message>
            <source>the {stage} has failed: {reason}</source>
            <translation>应用的一部分（{stage}）出现故障：{reason}</translation>
        </message>
        <message>
            <source>there is no GPU {index}: torch finds {device_count}</source>
            <translation>没有 GPU {index}：torch 找到 {device_count} 块</translation>
        </message>
        <message>
            <source>there is no Intel GPU {index}: OpenVINO finds {n}</source>
            <translation>没有 Intel GPU {index}：OpenVINO 找到 {n} 块</translation>
        </message>
        <message>
            <source>there is no desktop to hear a key on</source>
            <translation>没有可以接收按键的桌面</translation>
        </message>
        <message>
            <source>there is no file {path}; check the path</source>
            <translation>没有文件 {path}；请检查路径</translation>
        </message>
        <message>
            <source>there is no microphone: plug one in, or allow it in the system's settings for sound</source>
            <translation>没有麦克风：请连接一个，或在系统的声音设置中允许</translation>
        </message>
        <message>
            <source>this Wayland session has no message bus to ask its desktop by: bind mcnet-avatar ctl slate to a key in the desktop's own settings</source>
            <translation>此 Wayland 会话没有可用于询问桌面的消息总线：请在桌面的设置中将按键绑定到 mcnet-avatar ctl slate</translation>
        </message>
        <message>
            <source>this computer is being measured</source>
            <translation>正在测量这台计算机</translation>
        </message>
        <message>
            <source>this desktop's portal gives no keys to apps ({error}): bind mcnet-avatar ctl slate to a key in the desktop's own settings</source>
            <translation>此桌面的门户不向应用提供按键（{error}）：请在桌面的设置中将按键绑定到 mcnet-avatar ctl slate</translation>
        </message>
        <message>
            <source>this machine shows no GPU that a program may compute with (there is no /dev/dri/renderD*)</source>
            <translation>这台计算机没有可供程序计算的 GPU（没有 /dev/dri/renderD*）</translation>
        </message>
        <message>
            <source>this model's keypoints are not known points of a face</source>
            <translation>该模型的关键点不是已知的人脸点位</translation>
        </message>
        <message>
            <source>this user has no home folder: set HOME to a folder where the program may keep its files</source>
            <translation>该用户没有主文件夹:请将 HOME 设为程序可以存放文件的文件夹</translation>
        </message>
        <message>
            <source>threads: got {threads}, expected at least 1, or None for all cores</source>
            <translation>线程：指定了 {threads}，至少应为 1，或以 None 表示所有核心</translation>
        </message>
        <message>
            <source>to do</source>
            <translation>待办</translation>
        </message>
        <message>
            <source>torch is not installed</source>
            <translation>未安装 torch</translation>
        </message>
        <message>
            <source>torch lacks something on the Apple GPU that the network needs ({error}): use device cpu, or a newer torch</source>
            <translation>torch 在 Apple GPU 上缺少网络所需的功能（{error}）：请使用设备 cpu，或更新的 torch</translation>
        </message>
        <message>
            <source>torch {version} (for CUDA {cuda}) finds no usable NVIDIA GPU or driver</source>
            <translation>torch {version}（用于 CUDA {cuda}）找不到可用的 NVIDIA GPU 或驱动程序</translation>
        </message>
        <message>
            <source>torch {version} finds no Apple GPU that it can use</source>
            <translation>torch {version} 找不到可用的 Apple GPU</translation>
        </message>
        <message>
            <source>torch {version} has no NVIDIA driver to compute with</source>
            <translation>torch {version} 没有可用于计算的 NVIDIA 驱动程序</translation>
        </message>
        <message>
            <source>torch {version} is a build without Apple's Metal</source>
            <translation>torch {version} 是不带 Apple Metal 的版本</translation>
        </message>
        <message>
            <source>torch {version} is a build without CUDA</source>
            <translation>torch {version} 是不带 CUDA 的版本</translation>
        </message>
        <message>
            <source>trying {way}</source>
            <translation>正在尝试 {way}</translation>
        </message>
        <message>
            <source>turn your head as in the portrait</source>
            <translation>请像肖像那样转头</translation>
        </message>
        <message>
            <source>unknown config key {prefix}{unknown}; the known ones are {known}</source>
            <translation>未知的配置项 {prefix}{unknown}；已知的是 {known}</translation>
        </message>
        <message>
            <source>unknown key {key}</source>
            <translation>未知的键 {key}</translation>
        </message>
        <message>
            <source>unknown {what} {key}</source>
            <translation>未知：{what} {key}</translation>
        </message>
        <message>
            <source>unknown {what} {prefix}{unknown}; the known ones are {kinds}</source>
            <translation>未知：{what} {prefix}{unknown}；已知的有 {kinds}</translation>
        </message>
        <message>
            <source>unplug it and plug it in again, close other programs that use it</source>
            <translation>请拔下后重新插入，并关闭其他正在使用它的程序</translation>
        </message>
        <message>
            <source>v4l2loopback is loaded, but has no device.</source>
            <translation>v4l2loopback 已加载，但没有设备。</translation>
        </message>
        <message>
            <source>version: got {version}, expected {known}</source>
            <translation>version：为 {version}，应为 {known}</translation>
        </message>
        <message>
            <source>virtual camera</source>
            <translation>虚拟摄像头</translation>
        </message>
        <message>
            <source>virtual camera {detail}: got a picture of {shape}, expected {expected}</source>
            <translation>虚拟摄像头 {detail}：画面为 {shape}，应为 {expected}</translation>
        </message>
        <message>
            <source>virtual camera: got backend {backend}, expected one of {backends}</source>
            <translation>虚拟摄像头：后端为 {backend}，应为以下之一：{backends}</translation>
        </message>
        <message>
            <source>waiting for the weights of the model in use…</source>
            <translation>正在等待所用模型的权重…</translation>
        </message>
        <message>
            <source>warped L1 of copying</source>
            <translation>变形结果相对直接复制的 L1</translation>
        </message>
        <message>
            <source>warped L1 of copying, of what it learns from</source>
            <translation>变形结果相对直接复制的 L1（学习数据）</translation>
        </message>
        <message>
            <source>what is around this portrait cannot be shown: {error}</source>
            <translation>无法显示此肖像周围的内容:{error}</translation>
        </message>
        <message>
            <source>what speaks to PipeWire has crashed</source>
            <translation>与 PipeWire 通信的进程已崩溃</translation>
        </message>
        <message>
            <source>what {path} says of itself cannot be read: {why}</source>
            <translation>无法读取 {path} 对自身的说明：{why}</translation>
        </message>
        <message>
            <source>widths of at least {least}</source>
            <translation>至少为 {least} 的宽度</translation>
        </message>
        <message>
            <source>wood</source>
            <translation>木色</translation>
        </message>
        <message>
            <source>working…</source>
            <translation>处理中…</translation>
        </message>
        <message>
            <source>{busy_ms:.0f} ms each</source>
            <translation>每次 {busy_ms:.0f} ms</translation>
        </message>
        <message>
            <source>{camera} gives a picture of one colour: open its shutter, or switch it on with its key</source>
            <translation>{camera} 的画面只有一种颜色：请打开遮挡，或用专用按键开启它</translation>
        </message>
        <message>
            <source>{camera} goes on.</source>
            <translation>继续使用 {camera}。</translation>
        </message>
        <message>
            <source>{changed} changed</source>
            <translation>已更改 {changed} 项</translation>
        </message>
        <message>
            <source>{counts} counts, one for each UpBlock</source>
            <translation>{counts} 个数目，每个 UpBlock 一个</translation>
        </message>
        <message>
            <source>{delay_ms:.0f} ms</source>
            <translation>{delay_ms:.0f} ms</translation>
        </message>
        <message>
            <source>{device} ({name}), {why}, in {precision}</source>
            <translation>{device}（{name}），{why}，{precision}</translation>
        </message>
        <message>
            <source>{device} in {precision} with {backend}</source>
            <translation>{device}，{precision}，{backend}</translation>
        </message>
        <message>
            <source>{done} of {steps}</source>
            <translation>{done}/{steps}</translation>
        </message>
        <message>
            <source>{error}. Presets of this run are not kept</source>
            <translation>{error}。本次运行的预设不会保存</translation>
        </message>
        <message>
            <source>{error}; it is asked again in {pause_s:g} s</source>
            <translation>{error}；{pause_s:g} 秒后再次请求</translation>
        </message>
        <message>
            <source>{error}; until it can be had again, it is asked for from time to time</source>
            <translation>{error}；在恢复之前会不时再次请求</translation>
        </message>
        <message>
            <source>{file} was not finished within {seconds:g} s: leave its disk connected, and see later if it plays</source>
            <translation>{file} 未能在 {seconds:g} 秒内完成：请保持磁盘连接，稍后再看它能否播放</translation>
        </message>
        <message>
            <source>{first} and {then}</source>
            <translation>{first} 和 {then}</translation>
        </message>
        <message>
            <source>{first} or {then}</source>
            <translation>{first}或{then}</translation>
        </message>
        <message>
            <source>{first}, {then}</source>
            <translation>{first}，{then}</translation>
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
            <translation>{folder} 中没有模型：既没有 {model_file} 也没有 {latest_file}；应为 `mcnet-train export` 写出的文件夹，或已保存学习结果的训练文件夹</translation>
        </message>
        <message>
            <source>{found}, while the machine was busy with something else</source>
            <translation>{found}（当时计算机正忙于其他任务）</translation>
        </message>
        <message>
            <source>{fps:.0f} fps</source>
            <translation>{fps:.0f} fps</translation>
        </message>
        <message numerus="yes">
            <source>{fps:5.1f} fps   {n} frames</source>
            <translation>
                <numerusform>{fps:5.1f} fps   {n} 帧</numerusform>
            </translation>
        </message>
        <message numerus="yes">
            <source>{fps:5.1f} fps   {n} pictures</source>
            <translation>
                <numerusform>{fps:5.1f} fps   {n} 张</numerusform>
            </translation>
        </message>
        <message>
            <source>{frame_ms:.3g} ms on {way}</source>
            <translation>{frame_ms:.3g} ms（{way}）</translation>
        </message>
        <message>
            <source>{kept}; {error}</source>
            <translation>{kept}；{error}</translation>
        </message>
        <message>
            <source>{key} shows the slate, whichever window has the focus.</source>
            <translation>无论焦点在哪个窗口，按 {key} 都会显示待机画面。</translation>
        </message>
        <message>
            <source>{key}: got {got}, expected no such key</source>
            <translation>{key}：为 {got}，不应有此项</translation>
        </message>
        <message>
            <source>{key}: got {got}, expected {expected}</source>
            <translation>{key}：为 {got}，应为 {expected}</translation>
        </message>
        <message>
            <source>{lack}; in a clone, `make setup` installs every package</source>
            <translation>{lack}；在克隆的仓库中，`make setup` 会安装所有软件包</translation>
        </message>
        <message>
            <source>{lack}; or switch Content Credentials off</source>
            <translation>{lack}；或关闭内容凭证</translation>
        </message>
        <message>
            <source>{lack}; use device cpu, or another precision</source>
            <translation>{lack}；请使用设备 cpu，或其他精度</translation>
        </message>
        <message>
            <source>{levels} widths, as the encoder</source>
            <translation>{levels} 个宽度，与编码器相同</translation>
        </message>
        <message>
            <source>{licences} and {more} more</source>
            <translation>{licences} 及另外 {more} 种</translation>
        </message>
        <message>
            <source>{licences}; not stated for some</source>
            <translation>{licences}；部分未注明</translation>
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
            <translation>现在由 {model} 驱动肖像。</translation>
        </message>
        <message>
            <source>{model} cannot be used: {reason}. {other} goes on.</source>
            <translation>无法使用 {model}：{reason}。继续使用 {other}。</translation>
        </message>
        <message>
            <source>{model} cannot be used: {reason}. {other} is back.</source>
            <translation>无法使用 {model}：{reason}。已恢复 {other}。</translation>
        </message>
        <message>
            <source>{names}; did you mean {nearest}?</source>
            <translation>{names}；您是想要 {nearest} 吗？</translation>
        </message>
        <message>
            <source>{name} (key {key})</source>
            <translation>{name}（按键 {key}）</translation>
        </message>
        <message>
            <source>{name} (process {pid})</source>
            <translation>{name}（进程 {pid}）</translation>
        </message>
        <message>
            <source>{name} (sm_{major}{minor}) is older than what this torch was built for (sm_{known})</source>
            <translation>{name}（sm_{major}{minor}）早于此 torch 支持的版本（sm_{known}）</translation>
        </message>
        <message>
            <source>{name} came with the app and keeps its name: only your own portraits can be renamed</source>
            <translation>{name} 随应用附带，名称不变：只能重命名您自己的肖像</translation>
        </message>
        <message>
            <source>{name} came with the app and stays: only your own portraits can be removed</source>
            <translation>{name} 随应用附带，不能移除：只能移除您自己的肖像</translation>
        </message>
        <message>
            <source>{name} cannot be found: no host of that name is known; check the address, or use the number that the app shows</source>
            <translation>找不到 {name}：没有该名称的主机；请检查地址，或使用应用显示的数字地址</translation>
        </message>
        <message>
            <source>{name} cannot be opened: it is in use by another program, or not permitted; close that program</source>
            <translation>无法打开 {name}:它正被另一个程序使用,或未获许可;请关闭该程序</translation>
        </message>
        <message>
            <source>{name} cannot be opened: it is in use by another program, or not permitted; close that program; allow it under {place}</source>
            <translation>无法打开 {name}:它正被另一个程序使用,或未获许可;请关闭该程序,或在 {place} 下允许</translation>
        </message>
        <message>
            <source>{name} cannot be opened: {reason}</source>
            <translation>无法打开 {name}：{reason}</translation>
        </message>
        <message>
            <source>{name} cannot be reached ({cause}): see that its app runs, that both are in the same network, and that the address and its port are right</source>
            <translation>无法连接 {name}（{cause}）：请确认其应用正在运行、二者在同一网络中，且地址和端口正确</translation>
        </message>
        <message>
            <source>{name} cannot be used: {problem}; close programs that may use it, or plug it in again</source>
            <translation>无法使用 {name}：{problem}；请关闭可能在使用它的程序，或重新插入</translation>
        </message>
        <message>
            <source>{name} changed its picture from {width_px} x {height_px} to {width} x {height}: it is opened anew</source>
            <translation>{name} 的画面从 {width_px} x {height_px} 变为 {width} x {height}：正在重新打开</translation>
        </message>
        <message>
            <source>{name} changed its picture: got {shape}, expected {value}; open it again</source>
            <translation>{name} 的画面发生变化：{shape}，应为 {value}；请重新打开</translation>
        </message>
        <message>
            <source>{name} could not be closed: {reason}</source>
            <translation>无法关闭 {name}：{reason}</translation>
        </message>
        <message>
            <source>{name} could not be finished: {reason}</source>
            <translation>无法完成 {name}：{reason}</translation>
        </message>
        <message>
            <source>{name} does not answer: got nothing within {seconds:g} s; see that its app runs, and that both are in the same network</source>
            <translation>{name} 没有响应：{seconds:g} 秒内没有收到任何内容；请确认其应用正在运行，且二者在同一网络中</translation>
        </message>
        <message>
            <source>{name} does not answer: {users} attempts to read it hang in its driver; {remedy}, or choose another camera</source>
            <translation>{name} 没有响应：{users} 次读取卡在其驱动程序中；{remedy}，或选择其他摄像头</translation>
        </message>
        <message>
            <source>{name} does not tell the ranges of its activations: write a file that does (`mcnet convert --int8`)</source>
            <translation>{name} 没有给出激活值范围：请写出带有范围的文件（`mcnet convert --int8`）</translation>
        </message>
        <message>
            <source>{name} ended without a frame</source>
            <translation>{name} 未给出任何帧就结束了</translation>
        </message>
        <message>
            <source>{name} failed: {error}</source>
            <translation>{name} 失败：{error}</translation>
        </message>
        <message>
            <source>{name} failed: {reason}</source>
            <translation>{name} 失败：{reason}</translation>
        </message>
        <message>
            <source>{name} gave no frame within {seconds:g} s: {remedy}, or choose another camera</source>
            <translation>{name} 在 {seconds:g} 秒内没有给出帧：{remedy}，或选择其他摄像头</translation>
        </message>
        <message>
            <source>{name} gives no frames any more: unplugged, or taken by another program; plug it in again or close the other program</source>
            <translation>{name} 不再给出帧：已拔出，或被其他程序占用；请重新插入或关闭该程序</translation>
        </message>
        <message>
            <source>{name} gives no video ({cause}): look in its app for the video's address</source>
            <translation>{name} 没有视频（{cause}）：请在其应用中查找视频地址</translation>
        </message>
        <message>
            <source>{name} gives no video: got a page or a file; use the address of the video itself, such as {scheme}://{address}{path}</source>
            <translation>{name} 给出的是网页或文件而不是视频；请使用视频本身的地址，例如 {scheme}://{address}{path}</translation>
        </message>
        <message>
            <source>{name} gives no video: got a stream without pictures; look in its app for the video's address</source>
            <translation>{name} 给出的是没有画面的流；请在其应用中查找视频地址</translation>
        </message>
        <message>
            <source>{name} gives pictures of {width} x {height}, expected at least {least_px} pixels per side: choose a larger size in its app</source>
            <translation>{name} 的画面为 {width} x {height}，每边至少应有 {least_px} 像素：请在其应用中选择更大的尺寸</translation>
        </message>
        <message>
            <source>{name} has closed the connection: see that its app still runs</source>
            <translation>{name} 已关闭连接：请确认其应用仍在运行</translation>
        </message>
        <message>
            <source>{name} has ended; plug it in again, or choose another camera</source>
            <translation>{name} 已结束；请重新插入，或选择其他摄像头</translation>
        </message>
        <message>
            <source>{name} has given no frame for {seconds:g} s; it is opened anew. If that does not help, {remedy}, or choose another camera</source>
            <translation>{name} 已有 {seconds:g} 秒没有给出帧；正在重新打开。如果无效：{remedy}，或选择其他摄像头</translation>
        </message>
        <message>
            <source>{name} has given no picture for {seconds:g} s: see that its app is in front, the phone awake, and both in the same network</source>
            <translation>{name} 已有 {seconds:g} 秒没有画面：请确认其应用在前台、手机未休眠，且二者在同一网络中</translation>
        </message>
        <message>
            <source>{name} has given the very same picture for {seconds:g} s: it is frozen and is opened anew. If that does not help, plug it in again</source>
            <translation>{name} 的画面已有 {seconds:g} 秒完全不变：它已卡住，正在重新打开。如果无效，请重新插入</translation>
        </message>
        <message>
            <source>{name} has no video there ({cause}): look in its app for the video's address</source>
            <translation>{name} 在该处没有视频（{cause}）：请在其应用中查找视频地址</translation>
        </message>
        <message>
            <source>{name} is a motion file, expected what gives pictures</source>
            <translation>{name} 是动作文件，应为有画面的内容</translation>
        </message>
        <message>
            <source>{name} is a recording, expected a live camera: download it, and give the file</source>
            <translation>{name} 是录像，应为实时摄像头：请下载它，并指定该文件</translation>
        </message>
        <message>
            <source>{name} is in use by {users}; close that program</source>
            <translation>{name} 正被 {users} 使用；请关闭该程序</translation>
        </message>
        <message>
            <source>{name} is saved, but without Content Credentials: {why}.</source>
            <translation>{name} 已保存，但没有内容凭证：{why}。</translation>
        </message>
        <message>
            <source>{name} is there, but is not used: {lack}</source>
            <translation>有 {name}，但未使用：{lack}</translation>
        </message>
        <message>
            <source>{name} wants another user name or password: give them in the address, as in http://USER:PASSWORD@HOST/video</source>
            <translation>{name} 需要其他用户名或密码：请写在地址中，例如 http://USER:PASSWORD@HOST/video</translation>
        </message>
        <message>
            <source>{name} was closed; open it again to read on</source>
            <translation>{name} 已关闭；请重新打开以继续读取</translation>
        </message>
        <message>
            <source>{name} was taken out of the gallery.</source>
            <translation>{name} 已移出图库。</translation>
        </message>
        <message>
            <source>{name}, a camera of another kind</source>
            <translation>{name}，另一种摄像头</translation>
        </message>
        <message>
            <source>{name}, score {score} of 100</source>
            <translation>{name}，评分 {score}/100</translation>
        </message>
        <message>
            <source>{name}, {cores} cores, {threads} threads</source>
            <translation>{name}，{cores} 核，{threads} 线程</translation>
        </message>
        <message>
            <source>{name}: got no frame any more, expected a video; was the file changed?</source>
            <translation>{name}：不再有帧，应为视频；文件是否被更改？</translation>
        </message>
        <message>
            <source>{name}: there is no such camera; {advice}</source>
            <translation>{name}：没有这样的摄像头；{advice}</translation>
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
            <translation>还有 {number} 条</translation>
        </message>
        <message>
            <source>{number}%</source>
            <comment>percent</comment>
            <translation>{number}%</translation>
        </message>
        <message>
            <source>{p50:.0f} ms in app (p95 {p95:.0f})</source>
            <translation>应用内 {p50:.0f} ms（p95 {p95:.0f}）</translation>
        </message>
        <message>
            <source>{path} ({name}) is a virtual camera that no program feeds, expected a webcam; choose another</source>
            <translation>{path}（{name}）是没有程序供给画面的虚拟摄像头，应为网络摄像头；请选择其他摄像头</translation>
        </message>
        <message>
            <source>{path} ({name}) is not a capture device, expected a webcam; choose another</source>
            <translation>{path}（{name}）不是采集设备，应为网络摄像头；请选择其他摄像头</translation>
        </message>
        <message>
            <source>{path} cannot be read ({error}); check the path</source>
            <translation>无法读取 {path}（{error}）；请检查路径</translation>
        </message>
        <message>
            <source>{path} cannot be read as a checkpoint: it is something else, or truncated or damaged; get it again</source>
            <translation>无法将 {path} 作为检查点读取：它是其他内容，或不完整或已损坏；请重新获取</translation>
        </message>
        <message>
            <source>{path} cannot be read as a motion file: {error}; copy or record it again</source>
            <translation>无法将 {path} 作为动作文件读取：{error}；请重新复制或录制</translation>
        </message>
        <message>
            <source>{path} cannot be read: {cause}</source>
            <translation>无法读取 {path}：{cause}</translation>
        </message>
        <message>
            <source>{path} has a header that cannot be used: {error}; a newer version may have written it</source>
            <translation>{path} 的文件头无法使用：{error}；可能由更新的版本写入</translation>
        </message>
        <message>
            <source>{path} has {count} frames, expected at most {most}</source>
            <translation>{path} 有 {count} 帧，最多 {most} 帧</translation>
        </message>
        <message>
            <source>{path} holds no certificates ({error}); expected PEM, the signer's first</source>
            <translation>{path} 中没有证书（{error}）；应为 PEM，签名者的在前</translation>
        </message>
        <message>
            <source>{path} holds no private key ({error}); expected PEM</source>
            <translation>{path} 中没有私钥（{error}）；应为 PEM</translation>
        </message>
        <message>
            <source>{path} is a damaged motion file: {error}; copy or record it again</source>
            <translation>{path} 是损坏的动作文件：{error}；请重新复制或录制</translation>
        </message>
        <message>
            <source>{path} is a file of torch's, and {lack}: convert it once where torch is (`mcnet convert {name} model.safetensors --int8`), and use that</source>
            <translation>{path} 是 torch 的文件，但{lack}：请在有 torch 的地方转换一次（`mcnet convert {name} model.safetensors --int8`），然后使用转换结果</translation>
        </message>
        <message>
            <source>{path} is a folder, a device or a pipe, and only a file can be used; choose another</source>
            <translation>{path} 是文件夹、设备或管道，而只能使用文件；请选择其他文件</translation>
        </message>
        <message>
            <source>{path} is a motion file of version {version}, this program knows versions up to {known}; use a newer one</source>
            <translation>{path} 是版本 {version} 的动作文件，本程序支持到 {known}；请使用更新的程序</translation>
        </message>
        <message>
            <source>{path} is cut short: got {size} bytes, expected {end}; get it again</source>
            <translation>{path} 不完整：{size} 字节，应为 {end}；请重新获取</translation>
        </message>
        <message>
            <source>{path} is damaged: its tensors hash to {got}, its header says {content_hash}; get it again</source>
            <translation>{path} 已损坏：其张量的哈希为 {got}，文件头中为 {content_hash}；请重新获取</translation>
        </message>
        <message>
            <source>{path} is larger than {most} MB, expected a motion file; take a shorter one</source>
            <translation>{path} 大于 {most} MB，应为动作文件；请使用较短的</translation>
        </message>
        <message>
            <source>{path} is no MCNet checkpoint: got {found}, expected dicts named {parts}</source>
            <translation>{path} 不是 MCNet 检查点：其中是 {found}，应为名为 {parts} 的 dict</translation>
        </message>
        <message>
            <source>{path} is no motion file: expected one that --save-motion or the app recorded</source>
            <translation>{path} 不是动作文件：应为 --save-motion 或本应用录制的文件</translation>
        </message>
        <message>
            <source>{path} is no safetensors file that can be read ({said}): get it again</source>
            <translation>{path} 不是可读取的 safetensors 文件（{said}）：请重新获取</translation>
        </message>
        <message>
            <source>{path} is no safetensors file: its header is no table</source>
            <translation>{path} 不是 safetensors 文件：其文件头不是表</translation>
        </message>
        <message>
            <source>{path} is no safetensors file: its header lists no tensors</source>
            <translation>{path} 不是 safetensors 文件：其文件头没有列出张量</translation>
        </message>
        <message>
            <source>{path} is no whole safetensors file ({error}): it may be truncated; get it again</source>
            <translation>{path} 不是完整的 safetensors 文件（{error}）：可能被截断；请重新获取</translation>
        </message>
        <message>
            <source>{path} is no whole safetensors file: it may be truncated, or something else</source>
            <translation>{path} 不是完整的 safetensors 文件：它可能不完整，或是其他内容</translation>
        </message>
        <message>
            <source>{path} is not a model of ours: got format {found} in its header, expected {format}</source>
            <translation>{path} 不是我们的模型：文件头中的格式为 {found}，应为 {format}</translation>
        </message>
        <message>
            <source>{path} is not a model of ours: got format {got} in its header, expected {format}</source>
            <translation>{path} 不是我们的模型：文件头中的格式为 {got}，应为 {format}</translation>
        </message>
        <message>
            <source>{path} is refused: besides tensors it holds something that could run code when it is read ({wanted}); do not trust where it came from, or have it saved again with tensors only</source>
            <translation>拒绝 {path}：除张量外，它还包含读取时可能执行代码的内容（{wanted}）；请勿相信其来源，或请对方仅用张量重新保存</translation>
        </message>
        <message>
            <source>{path} was changed, and not all of it can be used: {said}. In place of that stays what this window has; {kept}.</source>
            <translation>{path} 已被更改，但其中部分内容无法使用：{said}。这些内容仍以此窗口中的为准；{kept}。</translation>
        </message>
        <message>
            <source>{path}: got suffix {suffix}, expected {kinds}</source>
            <translation>{path}：扩展名为 {suffix}，应为 {kinds}</translation>
        </message>
        <message>
            <source>{path}: {key} is a tensor of {kind}, expected F32 or F16 as we write them: have the model saved again as one of these</source>
            <translation>{path}：{key} 是 {kind} 类型的张量，应为我们写入的 F32 或 F16：请让人以其中之一重新保存模型</translation>
        </message>
        <message>
            <source>{path}: {part}.{key} is a {kind}, expected a name and a tensor</source>
            <translation>{path}：{part}.{key} 是 {kind}，应为名称和张量</translation>
        </message>
        <message>
            <source>{percent:.0f} %</source>
            <translation>{percent:.0f}%</translation>
        </message>
        <message>
            <source>{place} is a link, which the token of control from outside cannot be: remove it</source>
            <translation>{place} 是链接，外部控制的令牌不能是链接：请移除它</translation>
        </message>
        <message>
            <source>{precision} (measured to be the fastest here)</source>
            <translation>{precision}（在本机测得最快）</translation>
        </message>
        <message>
            <source>{precision} (which it multiplies best)</source>
            <translation>{precision}（其乘法最快）</translation>
        </message>
        <message>
            <source>{precision} (which it multiplies natively)</source>
            <translation>{precision}（原生支持其乘法）</translation>
        </message>
        <message>
            <source>{problems}; and {number} more</source>
            <translation>{problems}；还有 {number} 项</translation>
        </message>
        <message>
            <source>{rate_hz:g} per second</source>
            <translation>每秒 {rate_hz:g} 次</translation>
        </message>
        <message>
            <source>{reason}; nothing else computes on {device}: use device cpu</source>
            <translation>{reason}；{device} 上没有其他可用的计算方式：请使用设备 cpu</translation>
        </message>
        <message>
            <source>{reason}; {lack}, so that nothing else computes: install it, or mend that</source>
            <translation>{reason}；{lack}，因此没有其他可用的计算方式：请安装，或解决该问题</translation>
        </message>
        <message>
            <source>{request} A second or two is enough (F).</source>
            <translation>{request} 一两秒就够了（F）。</translation>
        </message>
        <message>
            <source>{request} The best frame of a second or two becomes the reference (F).</source>
            <translation>{request} 一两秒内最佳的一帧将成为参考（F）。</translation>
        </message>
        <message>
            <source>{score} of 100</source>
            <translation>{score}/100</translation>
        </message>
        <message>
            <source>{score} of 100, as calibrated before</source>
            <translation>{score}/100，与之前校准的一样</translation>
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
            <translation>{size_px} px，{millions:.2g} M 参数</translation>
        </message>
        <message>
            <source>{tip} Double-click the name, or press Backspace, for {words}.</source>
            <translation>{tip} 双击名称或按 Backspace 恢复为 {words}。</translation>
        </message>
        <message>
            <source>{tip} Times Expression.</source>
            <translation>{tip} 与“表情”相乘。</translation>
        </message>
        <message>
            <source>{tip} Times Motion.</source>
            <translation>{tip} 与“动作”相乘。</translation>
        </message>
        <message>
            <source>{trouble} A call hears nothing meanwhile; it is tried again.</source>
            <translation>{trouble} 其间通话听不到声音；会再次尝试。</translation>
        </message>
        <message>
            <source>{trouble} Recordings go on, and are silent meanwhile.</source>
            <translation>{trouble} 录像继续，其间没有声音。</translation>
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
            <translation>无法使用{what}：{error}</translation>
        </message>
        <message>
            <source>{what} {key}: got {value}, expected a list</source>
            <translation>{what} {key}：为 {value}，应为列表</translation>
        </message>
        <message>
            <source>{what} {key}: got {value}, expected a table of values</source>
            <translation>{what} {key}：为 {value}，应为数值表</translation>
        </message>
        <message>
            <source>{what} {key}: got {value}, expected {allowed}</source>
            <translation>{what} {key}：为 {value}，应为 {allowed}</translation>
        </message>
        <message>
            <source>{what} {key}: got {value}, expected {kind}</source>
            <translation>{what} {key}：为 {value}，应为 {kind}</translation>
        </message>
        <message>
            <source>{what}.{name}: got {got}, expected a table</source>
            <translation>{what}.{name}：为 {got}，应为表</translation>
        </message>
        <message>
            <source>{what}.{name}: {complaint}</source>
            <translation>{what}.{name}：{complaint}</translation>
        </message>
        <message>
            <source>{what}: got {got}, expected a table of presets</source>
            <translation>{what}：为 {got}，应为预设表</translation>
        </message>
        <message>
            <source>{where} does not hold the network it should: {problems}. Convert the original file again, or use another one</source>
            <translation>{where} 中没有应有的网络：{problems}。请重新转换原始文件，或使用其他文件</translation>
        </message>
        <message>
            <source>{where}: {key} holds NaN or infinite values, expected finite weights; if a training run diverged, use an earlier checkpoint of it</source>
            <translation>{where}：{key} 含有 NaN 或无穷大，权重应为有限值；如果训练发散，请使用其较早的检查点</translation>
        </message>
        <message>
            <source>{where}: {key} is a {kind} tensor, expected plain floating point</source>
            <translation>{where}：{key} 是 {kind} 张量，应为普通浮点</translation>
        </message>
        <message>
            <source>{width_px} x {height_px}, {fps_hz:.0f} fps</source>
            <translation>{width_px} x {height_px}，{fps_hz:.0f} fps</translation>
        </message>
        <message>
            <source>{widths} (the encoder's, reversed) when lateral is false</source>
            <translation>lateral 为 false 时为 {widths}（编码器的倒序）</translation>
        </message>
        <message>
            <source>{words}.</source>
            <comment>a whole sentence</comment>
            <translation>{words}。</translation>
        </message>
        <message>
            <source>“AI avatar” badge</source>
            <translation>“AI avatar”标识</translation>
        </message>
    </context>
</TS>
